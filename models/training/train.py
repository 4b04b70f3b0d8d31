"""Training: from interactions to a staged artefact, gated on the newest events that no model was trained on.

The newest slice is held out. The networks learn from what is before it. What the blend has to know of popularity and
neighbours it learns from choices all over that past, as both can be had as of any moment; what the networks are worth
it learns from the slice, which they have not seen. By the lists that each would have shown in the slice the candidate
is compared with the incumbent, in each half with the blend that learnt from the other. Then the candidate catches up on
the slice itself, for in a stream the newest events say the most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from models.artefact import Manifest, read_manifest, write_manifest
from models.config import TrainingConfig
from models.data.popularity import PopularityConfig
from models.ranking.blend import Blend
from models.ranking.examples import Examples
from models.ranking.features import names
from models.ranking.ranker import within_reach
from models.recommender import Recommender
from models.retrieval.index import IndexRefused
from models.retrieval.related import RelatedItems
from models.statistics.skew import Spread
from models.training.context import Course, TrainingData
from models.training.gate import MIN_EVENTS, scores, verdict
from models.training.incumbent import loaded, reads_alike, same_models, same_ranking
from models.training.positives import require_positives
from models.training.replay_examples import Studied, ranks_of_choices, study

Kind = Literal["retrain", "fine-tune"]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        kind: what was done; a fine-tune without a usable incumbent is a retrain.
        metrics: `ndcg_at_10` and `recall_at_10` of the candidate, and with `incumbent_` and `trending_` before the name
            of these, on the same `gate_events`; `index_recall`; `seconds`; `events`.
        why: the decision in words, with the numbers.
        losses: of each network, by name, the mean loss of each epoch before the comparison.
    """

    kind: Kind
    metrics: dict[str, float]
    promoted: bool
    why: str
    losses: dict[str, list[float]]


def train(
    data: TrainingData,
    config: TrainingConfig,
    *,
    kind: Kind,
    incumbent: Path | None,
    out: Path,
    version: str,
    offsets: Mapping[str, int],
    popularity: PopularityConfig,
    progress: Callable[[str, float], None],
    gate_min_events: int = MIN_EVENTS,
) -> Outcome:
    """Train, and write the artefact into the staged folder `out`, whether it is promoted or not.

    Args:
        incumbent: the artefact in service, to start from and to beat.
        progress: called with the stage and the share of all work done.
        gate_min_events: with fewer comparable events the model in service stays, see `verdict`.

    Raises:
        NothingToLearn: no interaction is a positive.
        ValueError: the configuration asks for a GPU, and there is none.
    """
    began = time.monotonic()
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    serving = loaded(incumbent)
    before = serving if serving and reads_alike(serving, config, popularity) else None
    trained_through = read_manifest(incumbent).trained_through if incumbent and before else None
    if before is None or not same_models(before.config, config):
        kind = "retrain"

    progress("reading", 0.0)
    course = Course.over(data, config, popularity, before.item_ids if before else [])
    log = course.histories.log
    require_positives(log, course.targets, len(course.items))
    held_out = course.held_out_from(trained_through, gate_min_events if serving else 0)

    networks = course.networks(before if kind == "fine-tune" else None)
    counted = course.counted(held_out, trained_through if kind == "fine-tune" else None, rng)
    fine = kind == "fine-tune"
    losses = course.fit(networks, counted, fine=fine, budget_s=0.8 * config.time_budget_s, rng=rng, progress=progress)

    progress("building the index", 0.7)
    # a fine-tune is compared with the SLIST that it goes on from, and puts one that knows all into service
    known = before.slist if fine and before is not None else None
    candidate = course.recommender(version, networks, Blend.prior(popularity), held_out, slist=known)
    progress("learning the blend", 0.75)
    start = before if fine and before is not None and same_ranking(before, candidate) else None
    studied = study(course, candidate, held_out, start.blend if start else None)
    progress("learning to rank", 0.82)
    rankers, final_ranker = studied.rankers(config.ranker, start.ranker if start else None)

    _spread(studied, course).save(out)

    progress("comparing with what is in service", 0.85)
    mine = []
    for half, its_blend, its_ranker in zip(studied.halves, studied.crossed, rankers, strict=True):
        candidate.blend, candidate.ranker = its_blend, its_ranker
        mine.append(ranks_of_choices(course, candidate, *half))
    # the first model has to beat trending alone: on few likes it may lose a little to the neighbours that stand in for
    # it, but learns what they cannot
    rivals = {"trending_": Recommender.trending_only(popularity, config)}
    if before is not None:
        rivals["incumbent_"] = before
    ranks = {prefix: ranks_of_choices(course, rival, held_out, len(log)) for prefix, rival in rivals.items()}
    ranks[""] = np.concatenate(mine)
    compared, rival = list(rivals.items())[-1]
    promoted, why = verdict(
        *(ranks[""], ranks[compared], rival.version),
        in_service=serving.version if serving else None,
        min_events=gate_min_events,
    )
    metrics = scores(ranks) | {"gate_events": float(len(ranks[""]))}

    progress("catching up", 0.9)
    candidate.blend, candidate.ranker = studied.blend, final_ranker
    course.catch_up(networks, held_out, rng)
    try:
        final = course.recommender(version, networks, studied.blend, len(log), final_ranker)
    except IndexRefused as refused:
        final, promoted, why = candidate, False, str(refused)
    assert final.networks is not None
    metrics["index_recall"] = min(final.networks.sequence_index.recall, final.networks.towers_index.recall)
    metrics["seconds"] = time.monotonic() - began
    metrics["events"] = float(len(log))

    assert final.neighbours is not None
    vectors = final.networks.towers_index.vectors[:, :-1]
    final.related = RelatedItems.over(final.neighbours, vectors, config.index, seed=config.seed)

    progress("writing", 0.97)
    final.save(out)
    write_manifest(
        out,
        Manifest(
            version=version,
            kind=kind,
            created_at=int(time.time() * 1000),
            config=asdict(config),
            events=len(log),
            trained_through=int(log.ts[-1]) if len(log) else 0,
            offsets=dict(offsets),
            metrics=metrics,
        ),
    )
    progress("done", 1.0)
    return Outcome(kind, metrics, promoted, why, losses)


def _spread(studied: Studied, course: Course) -> Spread:
    """How the ranker's features were spread among what it has to rank in the newest slice; each choice counts 1."""
    near = within_reach(Examples.together(studied.examples), studied.blend, course.config.ranker.depth)
    weights = np.exp(-near.log_odds_of_drawing.astype(np.float64))
    totals = np.bincount(near.of, weights, minlength=len(near))
    return Spread.of(names(course.popularity, course.facts.number_names), near.features, weights / totals[near.of])
