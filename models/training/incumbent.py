"""The model in service, as a training goes on from it: whether it can be read, and what of it can be kept."""

from __future__ import annotations

from pathlib import Path

from models.artefact import ArtefactError
from models.config import TrainingConfig
from models.data.popularity import PopularityConfig
from models.recommender import Recommender


def loaded(path: Path | None) -> Recommender | None:
    """The model in the folder; None without one, or where it is damaged, as it then does not serve either."""
    if path is None:
        return None
    try:
        return Recommender.load(path)
    except ArtefactError:
        return None


def reads_alike(incumbent: Recommender, config: TrainingConfig, popularity: PopularityConfig) -> bool:
    """Whether the incumbent reads users as `config` says, so that it can rank what a training prepares."""
    sizes = ("token_buckets", "profile_size", "histogram_size", "search_size")
    reads = (*sizes, "histogram_half_life_s", "search_half_life_s")
    same = all(getattr(incumbent.config, name) == getattr(config, name) for name in reads)
    return same and incumbent.popularity == popularity


def same_models(one: TrainingConfig, other: TrainingConfig) -> bool:
    """Whether the weights of one's networks fit into the other's."""
    of_sequence = (
        "layers",
        "similarity",
        "reads",
        "dim",
        "blocks",
        "heads",
        "feed",
        "length",
        "temperature",
        "next_action",
    )
    parts = {"sequence": of_sequence, "towers": ("reads", "similarity", "dim", "hidden", "temperature")}
    return one.slist == other.slist and all(
        getattr(getattr(one, part), name) == getattr(getattr(other, part), name)
        for part, named in parts.items()
        for name in named
    )


def same_ranking(one: Recommender, other: Recommender) -> bool:
    """Whether one's blend and ranker read of candidates what the other's do, and are of the same kind."""
    return (
        one.config.ranker == other.config.ranker
        and one.facts.number_names == other.facts.number_names
        and one.config.holidays == other.config.holidays
        and one.ranker is not None
    )
