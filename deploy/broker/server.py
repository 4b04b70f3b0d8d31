"""The broker as a whole: its folder, its port, and a clean end."""

import asyncio
import contextlib
import fcntl
import json
import logging
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from deploy.broker.groups_api import GroupsApi
from deploy.broker.offsets import Offsets
from deploy.broker.records_api import RecordsApi
from deploy.broker.topics import Topics
from deploy.broker.topics_api import Node, TopicsApi
from deploy.broker.wire import Wire

log = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
RETAIN_EVERY_S: Final = 30.0


class FolderInUse(Exception):
    """Another broker runs on the data folder."""


class Identity:
    """What the broker must not forget of itself: the cluster's id, and which producer ids it has given out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        kept = json.loads(path.read_text()) if path.exists() else {}
        self.cluster_id = str(kept.get("cluster_id") or uuid.uuid4().hex)
        self._next_producer_id = int(kept.get("next_producer_id", 0))
        self._save()

    def new_producer_id(self) -> int:
        """One that no producer has had."""
        given = self._next_producer_id
        self._next_producer_id += 1
        self._save()
        return given

    def _save(self) -> None:
        partial = self._path.with_suffix(".partial")
        kept = {"cluster_id": self.cluster_id, "next_producer_id": self._next_producer_id}
        partial.write_text(json.dumps(kept) + "\n")
        partial.replace(self._path)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse(f"another broker runs on {folder}") from None
        yield


@contextlib.asynccontextmanager
async def running(folder: Path, port: int, *, retain_every_s: float = RETAIN_EVERY_S) -> AsyncIterator[int]:
    """A broker on that folder and port (0: a free one) for as long as the block; gives the port.

    Raises:
        FolderInUse: another one runs on it.
        OSError: the port is taken, or the folder cannot be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder), contextlib.ExitStack() as closing:
        identity = Identity(folder / "identity.json")
        topics = Topics(folder / "topics")
        closing.callback(topics.close)
        offsets = Offsets(folder / "offsets.jsonl")
        closing.callback(offsets.close)
        # clients are told the port, so it is bound before anything is made that tells it
        listening = await asyncio.start_server(lambda *streams: wire.serve(*streams), HOST, port, start_serving=False)
        node = Node(identity.cluster_id, HOST, listening.sockets[0].getsockname()[1])
        groups = GroupsApi(topics, offsets, node)
        closing.callback(groups.close)
        records = RecordsApi(topics, identity.new_producer_id)
        wire = Wire([*records.apis(), *TopicsApi(topics, offsets, node).apis(), *groups.apis()])
        retaining = asyncio.create_task(_retain(topics, retain_every_s))
        try:
            await listening.start_serving()
            yield node.port
        finally:
            retaining.cancel()
            listening.close()
            await wire.close()


async def _retain(topics: Topics, every_s: float) -> None:
    while True:
        try:
            topics.retain()
        except OSError as error:
            log.error("cannot delete old records: %s", error)
        await asyncio.sleep(every_s)
