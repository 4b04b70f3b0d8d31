"""Likes: who liked what after what, as ingest hands it on for the neighbours of the model in service to follow."""

import struct
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

_HEAD: Final = struct.Struct("<H")
_LIKE: Final = struct.Struct("<qIH")
#: As the user's state has it: the item, and what a redelivery finds the like by.
_BEFORE: Final = np.dtype([("item", "<u4"), ("id", "<u4")])


class Like(NamedTuple):
    """A user's like of an item, by its number.

    Attributes:
        offset: the event's.
        before: the user's likes before it, as the user's state has them.
    """

    offset: int
    item: int
    before: bytes


class Liked(NamedTuple):
    """A like as neighbours follow it.

    Attributes:
        place: `log:partition` of the event, as in an artefact's offsets.
        before: (m,) item numbers that the user liked before, oldest first.
    """

    place: str
    offset: int
    item: int
    before: npt.NDArray[np.uint32]


def pack_likes(place: str, likes: Sequence[Like]) -> bytes:
    """The likes of a batch, by offset; nothing where there are none."""
    if not likes:
        return b""
    name = place.encode()
    parts = [_HEAD.pack(len(name)), name]
    for like in sorted(likes):
        parts += _LIKE.pack(like.offset, like.item, len(like.before)), like.before
    return b"".join(parts)


def unpack_likes(packed: bytes) -> Iterable[Liked]:
    """What `pack_likes` made a batch of."""
    [length] = _HEAD.unpack_from(packed)
    at = _HEAD.size + length
    place = packed[_HEAD.size : at].decode()
    while at < len(packed):
        offset, item, size = _LIKE.unpack_from(packed, at)
        at += _LIKE.size
        yield Liked(place, offset, item, np.frombuffer(packed, _BEFORE, size // _BEFORE.itemsize, at)["item"])
        at += size


class NewestLikes:
    """The newest likes that one process has read, for a model that goes into service later; at most so many."""

    def __init__(self, most: int) -> None:
        self._kept: deque[Liked] = deque(maxlen=most)
        self._new = 0

    def take(self, batches: Iterable[bytes]) -> None:
        """Take in batches that are new."""
        for packed in batches:
            for like in unpack_likes(packed):
                self._kept.append(like)
                self._new = min(self._new + 1, len(self._kept))

    def drain(self) -> list[Liked]:
        """Those that came since the last call."""
        new = list(islice(self._kept, len(self._kept) - self._new, None))
        self._new = 0
        return new

    def all(self) -> list[Liked]:
        """All that are kept."""
        return list(self._kept)
