"""The player: lets a world's time pass against a running system, tells it what happens, and shows people its lists."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping

from models.data.labels import CONSUMING, POSITIVE, LabelRules
from streams.contract.events import Event, ItemRecord, Recommendations, UserRecord, derived_event_id, encode
from streams.replay.probe import ANSWER_PATIENCE_S, NoAnswer, Wire
from streams.replay.scoring import PrequentialScore
from streams.replay.training_gate import Trainings
from streams.simulator.rivals import SYSTEM, Rivals
from streams.simulator.world import Shown, World

#: The most records held back to be sent together; one that is waited for sends them all at once.
_TOGETHER = 64
#: So many steps are taken at most before whatever else runs has its turn.
_AT_A_STRETCH = 32


class Player:
    """Plays a world over a wire.

    In step, nobody looks at a list before the one is out that answers what they did last; with `trainings`, the world
    stands still while a training that is due is under way. So it plays as a world would that is no faster than the
    clock. What comes of it depends on the machine only in when others' newest likes and trends are taken in.

    Attributes:
        world: what is played.
        events: how many were sent.
        newest_ts: event time of the newest, in ms.
        score: the prequential score, on what people found without the lists.
        rivals: what the classics' lists would have been worth to those who looked at a list.
        trainings: what to wait for in step, if for any; `meet` it first.
        shelf: in place of the lists as they are published, those to show, by user.
    """

    def __init__(
        self,
        wire: Wire,
        world: World,
        *,
        speed: float | None = None,
        in_step: bool = False,
        labels: LabelRules | None = None,
        on_event: Callable[[Event], None] = lambda _: None,
        fault: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Prepare to play.

        Args:
            speed: event time per clock time; as fast as it goes, when left out.
            on_event: called with each event before it is sent.
            fault: tells why the system cannot go on, once it cannot.
        """
        self.world = world
        self.events = 0
        self.newest_ts = world.config.start_ms
        self.score = PrequentialScore()
        self.rivals = Rivals(world)
        self.shelf: Mapping[str, Recommendations] | None = None
        self.trainings: Trainings | None = None
        self._wire = wire
        self._speed = speed
        self._in_step = in_step
        self._labels = labels or LabelRules()
        self._on_event = on_event
        self._fault = fault
        self._stopped = asyncio.Event()
        self._began: float | None = None
        self._users: dict[str, int] = {}
        self._outstanding: dict[str, asyncio.Future[None]] = {}

    def stop(self) -> None:
        """Let no more time pass: `play` returns."""
        self._stopped.set()

    async def load(self) -> None:
        """Send the catalogue and the profiles; in step, wait until the catalogue is kept.

        Raises:
            NoAnswer: it is not taken in.
        """
        wire = self._wire
        items = self.world.items()
        for item in items:
            await self._send_record(item)
        for user in self.world.users():
            await self._send_record(user)
        await wire.producer.flush()
        deadline = time.monotonic() + ANSWER_PATIENCE_S
        while self._in_step and await wire.store.count_described() < len(items):
            if time.monotonic() > deadline:
                raise NoAnswer("the catalogue was not taken in: is a worker running? `millstream doctor` tells")
            await asyncio.sleep(0.1)

    async def play(self, until_ms: int | None = None) -> None:
        """Let time pass until that event time, in ms, or until `stop`.

        Raises:
            NoAnswer: in step, and a part of the system does not answer.
        """
        steps = 0
        while not self._stopped.is_set():
            coming = self.world.coming
            if until_ms is not None and coming.ts >= until_ms:
                break
            await self._keep_pace(coming.ts)
            shown = await self._shown(coming.looker) if coming.looker else None
            if coming.looker and shown and self.rivals.count_look():
                self._compare(coming.looker, shown)
            for record in self.world.step(shown):
                await (self._send_event(record) if isinstance(record, Event) else self._send_record(record))
            if self._wire.n_held >= (_TOGETHER if self._in_step else 1):
                await self._wire.release()
            steps += 1
            if steps % _AT_A_STRETCH == 0:
                await asyncio.sleep(0)
        await self.settle()

    async def settle(self) -> None:
        """Send what is held; in step, wait for every answer."""
        await self._wire.release()
        for user in list(self._outstanding):
            await self._answer_to(user)

    async def ask_for_all(self) -> dict[str, Recommendations]:
        """Have a list made for everybody now, by a visit each, and wait for them: what a nightly batch does."""
        assert self._in_step, "only in step are answers known"
        ts = self.world.coming.ts
        for user in self.world.users():
            await self._send_event(Event(type="visit", user_id=user.user_id, ts=ts, session_id="night"))
        await self.settle()
        return dict(self._wire.lists)

    async def _keep_pace(self, ts: int) -> None:
        if self._speed is None:
            return
        now = time.monotonic()
        due_s = (ts - self.world.config.start_ms) / 1000.0 / self._speed
        self._began = self._began or now - due_s
        ahead = due_s - (now - self._began)
        if ahead > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), ahead)

    async def _shown(self, user: str) -> Shown | None:
        """The list that the user sees now."""
        if self.shelf is None:
            await self._answer_to(user)
        published = (self._wire.lists if self.shelf is None else self.shelf).get(user)
        if published is None or not published.items:
            return None
        return Shown(published.rec_id, [place.item_id for place in published.items])

    def _compare(self, looker: str, shown: Shown) -> None:
        user, numbers = self._number(looker), self.world.catalogue.numbers
        listed = [numbers[item_id] for item_id in shown.items if item_id in numbers]
        self.rivals.compare(looker, user, {SYSTEM: listed} | self.score.classics(user, len(shown.items)))

    def _number(self, user: str) -> int:
        return self._users.setdefault(user, len(self._users))

    async def _answer_to(self, user: str) -> None:
        answer = self._outstanding.pop(user, None)
        if answer is not None and not answer.done():
            await self._wire.answered(answer, self._fault, f"what user {user} did")

    async def _send_record(self, record: ItemRecord | UserRecord) -> None:
        names = self._wire.names
        topic, name = (names.items, record.item_id) if isinstance(record, ItemRecord) else (names.users, record.user_id)
        await self._wire.producer.send(topic, key=name.encode(), value=encode(record))

    async def _send_event(self, event: Event) -> None:
        if self.trainings is not None:
            await self.trainings.wait(self.events, self.newest_ts, self.settle)
        raw = encode(event)
        event_id = derived_event_id(raw)
        self._on_event(event)
        self._learn_and_score(event, event_id)
        awaited = event_id if self._in_step and event.calls_for_list else None
        answer = self._wire.hold_event(raw, event.user_id, awaited)
        if answer is not None:
            self._outstanding[event.user_id] = answer
        self.events += 1
        self.newest_ts = event.ts

    def _learn_and_score(self, event: Event, event_id: str) -> None:
        graded = event.grade(self._labels)
        if event.item_id is None or graded.action not in CONSUMING:
            return
        numbers = self.world.catalogue.numbers
        published = self._wire.lists.get(event.user_id)
        listed = [numbers.get(place.item_id, -1) for place in published.items] if published else None
        self.score.add(
            event_id=event_id,
            user=self._number(event.user_id),
            item=numbers[event.item_id],
            ts=event.ts,
            positive=graded.label == POSITIVE,
            listed=listed,
            # what somebody took from the list itself proves nothing of it, nor does what a bot likes
            scored=event.rec_id is None and not self.world.is_bot(event.user_id),
        )
