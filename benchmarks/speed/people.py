"""Made users with tastes, and what they do: the load of benchmarks that run a whole system."""

import random
import time
import uuid
from bisect import bisect
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import msgspec

from streams.contract.events import ItemRecord

ITEMS: Final = 3_883  # as many as ml-1m has
USERS: Final = 2_000
GENRES: Final = [f"genre {number}" for number in range(18)]


class _Item(msgspec.Struct):
    item_id: str


class _Shown(msgspec.Struct):
    """What a user sees of a list."""

    rec_id: str
    items: list[_Item]


_SHOWN: Final = msgspec.json.Decoder(_Shown)


def made_items() -> list[ItemRecord]:
    draw = random.Random(3)
    return [
        ItemRecord(item_id=f"i{n}", title=f"Item {n}", categorical={"genre": draw.sample(GENRES, 2)})
        for n in range(ITEMS)
    ]


class People:
    """Users with a taste of two genres each, who act on items drawn by Zipf's law, and on the lists that they get."""

    def __init__(self, items: Sequence[ItemRecord], seed: int) -> None:
        self._draw = random.Random(seed)
        self._by_genre: dict[str, list[str]] = {}
        for item in items:
            for genre in item.categorical.get("genre") or ["none"]:
                self._by_genre.setdefault(genre, []).append(item.item_id)
        self._genres = sorted(self._by_genre)
        self._weights = list(accumulate(1.0 / rank for rank in range(1, len(items) + 1)))
        self._ts = 0

    def event(self, *, ts: int | None = None, lists: Mapping[str, bytes] | None = None) -> dict[str, Any]:
        """The next event. With `lists`, the newest by user, half of the events are on an item of the user's list.

        Event time in ms is `ts`, or now; it never stands still, so that the last event of a user is the newest too.
        """
        draw = self._draw
        user = draw.randrange(USERS)
        self._ts = max(int(time.time() * 1000) if ts is None else ts, self._ts + 1)
        event: dict[str, Any] = {"event_id": uuid.UUID(int=draw.getrandbits(128)).hex, "user_id": f"u{user}"}
        shown = lists.get(event["user_id"]) if lists and draw.random() < 0.5 else None
        liked = draw.random() < 0.9
        if shown is not None and (made := _SHOWN.decode(shown)).items:
            position = draw.randrange(min(len(made.items), 10))
            event |= {"rec_id": made.rec_id, "position": position, "item_id": made.items[position].item_id}
        else:
            tastes = user % len(self._genres), (7 * user + 3) % len(self._genres)
            genre = draw.choice(tastes) if liked else draw.randrange(len(self._genres))
            event["item_id"] = self._item(self._by_genre[self._genres[genre]])
        kind = draw.choices(("watch", "like", "click"), (7, 2, 1))[0]
        if kind == "watch":
            event |= {"watch_s": 55.0 if liked else 8.0, "duration_s": 60.0}
        return event | {"type": kind, "ts": self._ts}

    def _item(self, among: Sequence[str]) -> str:
        return among[bisect(self._weights, self._draw.random() * self._weights[len(among) - 1], hi=len(among) - 1)]
