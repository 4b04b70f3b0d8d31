"""Acting as a user: the event goes to Kafka as the API would send it, and the time until its list is measured."""

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, Final, Literal, NamedTuple

from serving.api.live import Live, now_ms
from serving.api.problems import Problem
from serving.api.writes import keep_user, take_events
from serving.dashboard.board import Board
from streams.contract.events import Event, ListItem, Recommendations, UserRecord, encode

PATIENCE_S: Final = 10.0
#: An event time so far behind the clock is a simulated or replayed one: acts then take place in that time too.
_OWN_TIME_MS: Final = 3_600_000
_DURATION_S: Final = 60.0

Act = Literal["watch", "like", "hide", "skip"]


class Answer(NamedTuple):
    """The list that answered, None when none came in time, and how long it took."""

    made: Recommendations | None
    took_ms: float


async def act(board: Board, user: str, what: Act, item: str, *, rec_id: str = "", position: int = -1) -> Answer:
    """Send what the user did with an item and wait for the list that answers it.

    Raises:
        Problem: the event cannot be used, or Kafka is away.
    """
    fields: dict[str, Any] = {"user_id": user, "item_id": item, "ts": _event_time(board), "event_id": uuid.uuid4().hex}
    if rec_id:
        fields |= {"rec_id": rec_id, "position": position}
    if what in ("watch", "skip"):
        duration = _duration(board, item)
        fields |= {"watch_s": duration * (0.95 if what == "watch" else 0.03), "duration_s": duration}
    event = Event(type="watch" if what == "skip" else what, **fields)

    async def send() -> None:
        await take_events(board.live, board.metrics, [encode(event)])

    return await _answered(board.live, user, send, lambda made: made.cause is not None and made.cause.ts >= event.ts)


async def introduce(board: Board, record: UserRecord) -> Answer:
    """Put a user's record and wait for the list that follows.

    Raises:
        BadRecord: it breaks the contract.
        Problem: Kafka is away.
    """
    began_ms = now_ms()

    async def send() -> None:
        await keep_user(board.live, encode(record))

    return await _answered(
        board.live, record.user_id, send, lambda made: made.cause is None and made.generated_at >= began_ms
    )


async def _answered(
    live: Live, user: str, send: Callable[[], Coroutine[Any, Any, None]], answers: Callable[[Recommendations], bool]
) -> Answer:
    heard = asyncio.get_running_loop().create_future()

    async def hear() -> None:
        async for made in live.lists(user):
            if made is not None and answers(made) and not heard.done():
                heard.set_result(made)

    hearing = asyncio.create_task(hear())
    await asyncio.sleep(0)  # it listens before the event is on its way
    began = time.perf_counter()
    try:
        await send()
        made = await asyncio.wait_for(heard, PATIENCE_S)
    except TimeoutError:
        made = None
    finally:
        hearing.cancel()
    return Answer(made, (time.perf_counter() - began) * 1000.0)


def _event_time(board: Board) -> int:
    newest, now = board.watch.newest_ts, now_ms()
    return newest + 1 if 0 < newest < now - _OWN_TIME_MS else now


def _duration(board: Board, item: str) -> float:
    catalogue = board.live.engine.catalogue
    number = catalogue.numbers.get(item)
    return (None if number is None else catalogue.items[number].duration_s) or _DURATION_S


class Move(NamedTuple):
    """How a place of a list came about: places up from before, None for an item that was not on it."""

    place: ListItem
    up: int | None


def moves(before: list[ListItem], after: list[ListItem]) -> list[Move]:
    """How each place of the list `after` stands against the one `before`."""
    at = {place.item_id: number for number, place in enumerate(before)}
    return [
        Move(place, at[place.item_id] - number if place.item_id in at else None) for number, place in enumerate(after)
    ]


def told(error: Problem | Exception) -> str:
    """What went wrong, for people."""
    return error.details.detail if isinstance(error, Problem) else str(error)
