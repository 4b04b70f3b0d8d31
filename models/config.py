"""Everything tunable about the models, as plain frozen dataclasses that round-trip through JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import date
from typing import Any, Final, Literal, get_type_hints

#: A holiday that recurs each year is known for these.
_YEARS: Final = range(1970, 2101)
#: What a sequence model may read beside the items and their order.
Reading = Literal["content", "actions", "gaps", "times", "moment", "trends", "user"]
#: What the user tower may read beside the profile, the histogram and the history.
TowerReading = Literal["searches", "hours", "season", "device", "user"]


@dataclass(frozen=True)
class SequenceConfig:
    """The sequence model: the parts that it is made of, what it reads, and how it learns.

    Attributes:
        layers: `sasrec` (transformer), `ligr` (with gates), `hstu` (pointwise attention), `gru`, `lstm`, or `pooled`
            (the mean of what was done, fed forward: with one block and a softmax, YouTube's network).
        loss: `softmax` over all items, `sampled` softmax with the bias of sampling taken off, or `gbce`. A catalogue
            of up to `full_softmax_items` is never sampled from for a softmax.
        similarity: of a query and an item's vector: `dot` product, or `cosine` divided by `temperature`.
        reads: the items' `content`; the `actions` and their strength; the `gaps` between actions; the `times` from each
            action attended to; the `moment` that is asked about (where it is not read, times and waits end with the
            last action); the `trends`, popularity as of the moment; the `user`, by an embedding of the hashed id.
        feed: the width within the feed-forward layers, in multiples of `dim`; 1 is SASRec's own. (`hstu` has none.)
        length: actions that a query is made of.
        stretch: windows in training are so many times as long.
        item_dropout, user_dropout: share of items, and of users, whose id is hidden in a training step.
        negatives: items drawn for each step of a loss that samples, beside what was chosen in it.
        popular_negatives: the share of these that is drawn as often as items are liked; the others are drawn uniformly.
        calibration: of `gbce`, between 0 and 1.
        next_action: whether the action on the next item is foretold beside the item.
        warmup: steps until the learning rate is reached.
    """

    layers: Literal["sasrec", "ligr", "hstu", "gru", "lstm", "pooled"] = "sasrec"
    loss: Literal["softmax", "sampled", "gbce"] = "sampled"
    similarity: Literal["dot", "cosine"] = "dot"
    reads: tuple[Reading, ...] = ("content", "actions", "gaps", "moment", "trends")
    dim: int = 64
    blocks: int = 2
    heads: int = 2
    feed: int = 2
    length: int = 50
    stretch: int = 2
    dropout: float = 0.2
    item_dropout: float = 0.2
    user_dropout: float = 0.5
    temperature: float = 0.1
    full_softmax_items: int = 2_000
    negatives: int = 1024
    popular_negatives: float = 0.0
    calibration: float = 0.75
    next_action: bool = False
    batch_tokens: int = 4096
    learning_rate: float = 1e-3
    warmup: int = 0
    weight_decay: float = 1.0
    epochs: int = 4
    fine_tune_epochs: int = 2

    def __post_init__(self) -> None:
        if self.layers in ("gru", "lstm", "pooled") and "times" in self.reads:
            raise ValueError(f"sequence: layers of kind {self.layers} attend to nothing, so they cannot read times")
        if self.loss == "gbce" and self.popular_negatives:
            raise ValueError("sequence: gbce is calibrated for uniform negatives, so popular_negatives has to be 0")
        if self.feed < 1:
            raise ValueError(f"sequence: feed must be 1 or more, not {self.feed}")
        _check_share("sequence: popular_negatives", self.popular_negatives)


@dataclass(frozen=True)
class TowersConfig:
    """The two towers, and how they learn.

    Attributes:
        reads: beside profile, histogram and history: the words of the last `searches`; the `hours` (time of day and day
            of the week); the `season`; the `device`; the `user`, by an embedding of the hashed id.
        similarity: of a user's and an item's vector: `cosine` divided by `temperature`, or `dot` product.
        item_dropout, user_dropout: share of items, and of users, whose id is hidden in a training step.
        negatives: items drawn for each step, beside those that the others of the batch chose.
        popular_negatives: the share of these that is drawn as often as items are liked; the others are drawn uniformly.
        warmup: steps until the learning rate is reached.
    """

    reads: tuple[TowerReading, ...] = ("searches",)
    similarity: Literal["dot", "cosine"] = "cosine"
    dim: int = 64
    hidden: int = 128
    temperature: float = 0.1
    dropout: float = 0.1
    item_dropout: float = 0.1
    user_dropout: float = 0.5
    batch: int = 1024
    negatives: int = 512
    popular_negatives: float = 0.0
    learning_rate: float = 1e-3
    warmup: int = 0
    weight_decay: float = 0.5
    epochs: int = 3
    fine_tune_epochs: int = 1

    def __post_init__(self) -> None:
        _check_share("towers: popular_negatives", self.popular_negatives)


@dataclass(frozen=True)
class NeighboursConfig:
    """Items liked together: within how many likes, how many are kept of each, and what counts of a user.

    Attributes:
        damping: added to the likes of an item when its cosine is taken.
        recent, liked: a user's last so many actions count, if of at least this strength.
    """

    window: int = 50
    size: int = 100
    damping: float = 20.0
    recent: int = 30
    liked: float = 0.75


@dataclass(frozen=True)
class SlistConfig:
    """SLIST, the linear model of sequences.

    Attributes:
        items: the most items that it knows, those dealt with most often; solving costs their number's third power. 0
            leaves SLIST out.
        least: how often an item must have been dealt with.
        recent: a user's last so many actions count.
        fading: the k-th last counts k to the power of -fading.
        sitting_s: over 0, the same actions count once more, with weights of their own, less by a factor of e for each
            so many seconds since then.
        damping: of the regression, at least 1; more draws weights nearer to 0.
        examples: the newest so many are learnt from.
        size: so many of an item's weights are kept, the largest.
        beside: what the logarithm of its chances counts beside the sequence model's scores, where that is evaluated
            alone (`loo`); what is in service learns how much it counts.
    """

    items: int = 5_000
    least: int = 3
    recent: int = 30
    fading: float = 0.5
    sitting_s: float = 0.0
    damping: float = 1000.0
    examples: int = 200_000
    size: int = 50
    beside: float = 0.0

    def __post_init__(self) -> None:
        if self.damping < 1.0:  # less is lost in the rounding of what it is added to
            raise ValueError(f"slist: damping must be 1 or more, not {self.damping}")
        if min(self.recent, self.size) < 1:
            raise ValueError(f"slist: recent and size must be 1 or more, not {self.recent} and {self.size}")
        if self.sitting_s < 0.0:
            raise ValueError(f"slist: sitting_s must be 0 or more, not {self.sitting_s}")

    @property
    def parts(self) -> int:
        """How many weights each pair of items has."""
        return 2 if self.sitting_s else 1


@dataclass(frozen=True)
class ClassicsConfig:
    """The classics that an evaluation compares with.

    Attributes:
        factors, regularisation: of both factorizations.
        unobserved_weight: in `als`, what a pair that was not observed counts beside one that was.
        als_rounds, sgd_rounds: passes over the likes.
        sgd_rate: the learning rate of `sgd`.
        neighbours: so many of the nearest users count in `user_user`.
    """

    factors: int = 64
    regularisation: float = 0.05
    unobserved_weight: float = 0.1
    als_rounds: int = 15
    sgd_rounds: int = 100
    sgd_rate: float = 0.05
    neighbours: int = 100


@dataclass(frozen=True)
class BlendConfig:
    """The blend over candidates of all sources.

    Attributes:
        candidates: how many each source proposes.
        half_trust: likes in training at which the networks' scores of an item are half trusted.
        past_choices: the most choices of the past, spread over it, that the weights of all but the networks are learnt
            from; each costs about a millisecond.
        prior_strength: how firmly these weights are held to those for when nothing has been learnt.
        past_strength: how firmly all weights are then held to these, when what is held out is learnt from.
        steps: the most steps of the optimiser.
    """

    candidates: int = 100
    half_trust: float = 20.0
    past_choices: int = 6_000
    prior_strength: float = 8.0
    past_strength: float = 300.0
    steps: int = 60


@dataclass(frozen=True)
class RankerConfig:
    """What orders the best of the blend anew, and how it learns.

    Attributes:
        kind: `blend` leaves the blend's order; `linear` (logistic regression), `fm`, `deep`, `wide_deep` and `deepfm`
            add what a network makes of a candidate's features to the blend's score, `boosting`, `lambdarank` and
            `forest` (a random forest) what trees do.
        calibration: what makes probabilities of scores: a curve of two numbers (`platt`), or whatever rises with them
            (`isotonic`), which wants more examples.
        depth: how many of each user's candidates, the best by the blend, are ordered anew.
        negatives: how many of these are described in training, beside what was chosen and what was shown in vain.
        past_weight: what a choice of before the newest slice counts; of these the networks know nothing.
        hidden, dim, dropout: of the networks: layers, size of token embeddings, share of units hidden in training.
        batch: choices in a step.
        trees, leaves, shrinkage: of boosting; of these a forest heeds the number of trees alone.
    """

    kind: Literal["blend", "linear", "fm", "deep", "wide_deep", "deepfm", "boosting", "lambdarank", "forest"] = "deep"
    calibration: Literal["platt", "isotonic"] = "platt"
    depth: int = 100
    negatives: int = 40
    past_weight: float = 0.5
    hidden: tuple[int, ...] = (64, 32)
    dim: int = 8
    dropout: float = 0.2
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    epochs: int = 4
    fine_tune_epochs: int = 2
    batch: int = 32
    trees: int = 100
    leaves: int = 15
    shrinkage: float = 0.05
    seed: int = 1


@dataclass(frozen=True)
class IndexConfig:
    """Which index a catalogue is searched by, for its size.

    Attributes:
        exact_items: exact search up to so many items,
        graph_items: a graph (HNSW) up to so many,
        lists_items: inverted lists (IVF) up to so many, and lists of codes (IVF-PQ) beyond.
        recall_floor: what finds less of the exact nearest than this gives way to the kind before it.
    """

    exact_items: int = 50_000
    graph_items: int = 50_000
    lists_items: int = 250_000
    recall_floor: float = 0.9


@dataclass(frozen=True)
class TrainingConfig:
    """How models are built and trained. Periods are in seconds; half-lives are of event time.

    Attributes:
        token_buckets: buckets of hashed content, profile and histogram tokens, and of user ids.
        profile_size, histogram_size: the most profile tokens and histogram entries of a user that the models read.
        search_size: so many of the words that a user searched for last are read.
        search_half_life_s: event time after which a word searched for counts half.
        held_out_share, held_out_least, held_out_max: the newest slice, which blend and gate use: this share of the
            interactions, but at least and at most so many; of a young log never more than half.
        replay_share: how many old events a fine-tune mixes in, for each new one; they are those of some users.
        recency_half_life_s: event time after which an example counts half in training.
        least_weight: what the oldest examples still count.
        holidays: days of each year such as 12-25, or dates such as 2026-04-05, that the ranker is told the distance to.
        device: where the networks are taught: on the `cpu`, on a GPU (`cuda`), or with `auto` on a GPU if torch finds
            one. Rankers learn on the CPU, and all serve on it.
        precision: of matrix products when the networks are taught; `auto` is `bfloat16` where the hardware computes it.
            Weights, losses and what serves are `float32`.
        time_budget_s: clock time that the networks' training may take. When it is spent they stop early, and what comes
            of it depends on the machine: it is a safety net, not a means of tuning.
    """

    sequence: SequenceConfig = field(default_factory=SequenceConfig)
    towers: TowersConfig = field(default_factory=TowersConfig)
    neighbours: NeighboursConfig = field(default_factory=NeighboursConfig)
    slist: SlistConfig = field(default_factory=SlistConfig)
    blend: BlendConfig = field(default_factory=BlendConfig)
    ranker: RankerConfig = field(default_factory=RankerConfig)
    classics: ClassicsConfig = field(default_factory=ClassicsConfig)
    index: IndexConfig = field(default_factory=IndexConfig)
    token_buckets: int = 32_768
    profile_size: int = 32
    histogram_size: int = 32
    histogram_half_life_s: float = 2_592_000.0
    search_size: int = 16
    search_half_life_s: float = 86_400.0
    held_out_share: float = 0.1
    held_out_least: int = 1_000
    held_out_max: int = 4000
    replay_share: float = 1.0
    recency_half_life_s: float = 2_592_000.0
    least_weight: float = 0.1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    time_budget_s: float = 600.0
    holidays: tuple[str, ...] = ("01-01", "12-25")
    seed: int = 1

    def __post_init__(self) -> None:
        for holiday in self.holidays:
            holiday_dates(holiday)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrainingConfig:
        """The configuration that `dataclasses.asdict` made `content` of; absent fields keep their defaults."""
        config: TrainingConfig = _build(cls, content)
        return config


def _build(kind: Any, content: Mapping[str, Any]) -> Any:
    hints = get_type_hints(kind)
    known = {each.name for each in fields(kind)}
    unknown = sorted(set(content) - known)
    if unknown:
        raise ValueError(f"{kind.__name__} has no field {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return kind(
        **{
            name: _build(hints[name], value)
            if is_dataclass(hints[name]) and isinstance(value, Mapping)
            else tuple(value)
            if isinstance(value, list)
            else value
            for name, value in content.items()
        }
    )


def _check_share(name: str, share: float) -> None:
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"{name} is a share, so it must be between 0 and 1, not {share}")


def holiday_dates(text: str) -> list[date]:
    """The dates of one holiday as it is set: a day of each year, such as 12-25, or one date, such as 2026-04-05.

    Raises:
        ValueError: it is neither.
    """
    try:
        if len(text) == len("2026-04-05"):
            return [date.fromisoformat(text)]
        leap = date.fromisoformat(f"2000-{text}")
    except ValueError:
        raise ValueError(f"holidays: {text!r} is neither a day such as 12-25 nor a date such as 2026-04-05") from None
    if (leap.month, leap.day) == (2, 29):
        raise ValueError("holidays: 02-29 is not in every year; give it as dates, such as 2028-02-29")
    return [date(year, leap.month, leap.day) for year in _YEARS]
