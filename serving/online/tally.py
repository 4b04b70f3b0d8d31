"""The tally: everything that is counted of lists and events, and what it says as of now."""

from collections.abc import Iterable

from models.statistics.drift import stability_index
from serving.experiments import Experiments
from serving.experiments.exploring import Exploring
from serving.experiments.ledger import Ledgers
from serving.experiments.shadows import Shadow
from serving.measures import Measure, rates
from serving.online.attribution import Attribution
from serving.online.concentration import Concentration
from serving.online.windows import Windows, summed
from streams.contract.events import Event, Recommendations
from streams.settings.pipeline import ExplorationSettings
from streams.settings.settings import Settings
from streams.state.item_catalogue import Catalogue, decode_profile

#: With fewer events on either side nothing is said about drift: chance alone would move it.
_DRIFT_EVENTS_LEAST = 200


class Tally:
    """Counts lists and events, which come in the order of their arrival.

    Attributes:
        windows: the counts by window and breakdown.
        ledgers: the counts by user of each experiment.
        shadows: lists that nobody is shown.
        exploring: what became of the places that explore.
    """

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self.settings = settings.online
        self._catalogue = catalogue
        self.attribution = Attribution(self.settings, settings.labels.watch_positive, self._features)
        self.windows = Windows(self.attribution.dimensions, window_s=self.settings.window_s, kept=self.settings.windows)
        self.ledgers = Ledgers(Experiments(settings.experiments), most=self.settings.max_users)
        self.shadows = [Shadow(each, settings.labels) for each in settings.experiments.shadows]
        self._explorations = {name: each.exploration for name, each in settings.pipelines.items()}
        self._exploration = settings.pipeline.exploration
        self.exploring = Exploring(self._exploration_of)
        self._exposures = Concentration(self.settings.concentration_half_life_s)
        self._clicks = Concentration(self.settings.concentration_half_life_s)
        self._now = 0  # event time in ms

    # -- what comes in

    def take_list(self, made: Recommendations, arrived: int, *, published: bool = True) -> None:
        """A list that was published, or made for one request alone, at that time (ms)."""
        self.attribution.take_list(made, arrived)
        if published:  # a request may name its pipeline, whatever the user's arm
            self.ledgers.take_list(made)
            self.exploring.take_list(made)
        numbers = map(self._catalogue.numbers.get, (place.item_id for place in made.items))
        self._exposures.add((number for number in numbers if number is not None), self._now)

    def take_event(self, event: Event, arrived: int) -> None:
        """An event, which arrived at that time (ms)."""
        self._now = max(self._now, min(event.ts, arrived))
        for credit in self.attribution.take_event(event, arrived):
            self.windows.add(credit.ts, credit.labels, credit.amounts)
            self.ledgers.take(credit)
        for shadow in self.shadows:
            shadow.take_event(event, arrived)
        self.exploring.take_event(event)
        if event.type in ("click", "watch"):
            number = self._catalogue.numbers.get(event.item_id or "")
            self._clicks.add(() if number is None else (number,), self._now)

    def take_profiles(self, profiles: Iterable[tuple[str, bytes | None]]) -> None:
        """Users as Redis knows them, for the segments that no event names."""
        for user_id, raw in profiles:
            profile = decode_profile(raw or b"")
            self.attribution.take_profile(user_id, profile.categorical if profile else None)

    def forget(self, user_id: str) -> None:
        """Forget an erased user."""
        self.attribution.forget(user_id)
        self.ledgers.forget(user_id)
        for shadow in self.shadows:
            shadow.forget(user_id)
        self.exploring.forget(user_id)

    def _exploration_of(self, user_id: str) -> ExplorationSettings | None:
        arm = self.ledgers.experiments.arm_of(user_id)
        return None if arm.drafted else self._explorations.get(arm.pipeline or "", self._exploration)

    def _features(self, item_id: str) -> tuple[tuple[str, ...], ...]:
        number = self._catalogue.numbers.get(item_id)
        if number is None:
            return ()
        categorical = self._catalogue.items[number].categorical
        return tuple(tuple(categorical.get(name, ())) for name in self.settings.item_features)

    # -- what it says

    def breakdown(self, dimension: str, since: int = 0) -> dict[str, tuple[list[float], dict[str, float | None]]]:
        """The counts and rates by value of a dimension, of the windows that begin at `since` (ms) or later.

        A session has one variant, model and segment from its beginning. By what earned it its first click or watch,
        as a source, the rates are what part of all sessions' rate each earned: they add up to it.

        Raises:
            ValueError: there is no such dimension.
        """
        totals = self.windows.totals(dimension, since=since)
        of_sessions = dimension in ("variant", "model", *self.settings.segments)
        sessions = None if of_sessions else summed(totals)[Measure.SESSIONS]
        return {value: (counts, rates(counts, sessions)) for value, counts in totals.items()}

    def drift(self) -> dict[str, float]:
        """The stability index of the newest events against all before them, by dimension; where there are enough."""
        since = self.windows.since(self.settings.recent_s)
        found = {}
        for dimension in ("type", *self.settings.item_features, *self.settings.segments):
            now = self._events(self.windows.totals(dimension, since=since))
            before = self._events(self.windows.totals(dimension, until=since))
            if min(sum(now.values()), sum(before.values())) >= _DRIFT_EVENTS_LEAST:
                found[dimension] = stability_index(before, now)
        return found

    def _events(self, totals: dict[str, list[float]]) -> dict[str, float]:
        return {value: counts[Measure.EVENTS] for value, counts in totals.items()}

    def concentration(self) -> dict[str, float]:
        """The Gini coefficients of what is listed and of what is clicked or watched, over all items known."""
        items = len(self._catalogue)
        return {
            "exposures": self._exposures.gini(items, self._now),
            "clicks": self._clicks.gini(items, self._now),
        }
