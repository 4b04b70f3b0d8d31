"""The committed offsets of all consumer groups, in a journal: a line of JSON per commit."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: The journal is written anew when it has grown to this many lines more than it holds offsets.
_STALE_MAX: Final = 20_000


@dataclass(frozen=True, slots=True)
class Committed:
    """How far a group has come in a partition, and the client's own note on it."""

    offset: int
    leader_epoch: int = -1
    metadata: str = ""


class Offsets:
    """Group -> topic and partition -> what was committed last; `flush` is called once per request."""

    def __init__(self, path: Path) -> None:
        """Read the journal, whose last line a crash may have cut, and write it anew."""
        self._path = path
        self._by_group: dict[str, dict[tuple[str, int], Committed]] = {}
        if path.exists():
            for line in path.read_text(errors="replace").splitlines():
                try:
                    group, topic, partition, offset, leader_epoch, metadata = json.loads(line)
                except ValueError:
                    continue
                self._put(
                    group, topic, partition, None if offset is None else Committed(offset, leader_epoch, metadata)
                )
        self._rewrite()

    def groups(self) -> set[str]:
        """The groups that have committed anything."""
        return set(self._by_group)

    def of(self, group: str) -> Mapping[tuple[str, int], Committed]:
        """Topic and partition -> what the group has committed."""
        return self._by_group.get(group, {})

    def commit(self, group: str, topic: str, partition: int, committed: Committed) -> None:
        self._note(group, topic, partition, committed)

    def forget_group(self, group: str) -> None:
        for topic, partition in list(self.of(group)):
            self._note(group, topic, partition, None)
        self.flush()

    def forget_topic(self, name: str) -> None:
        for group, offsets in list(self._by_group.items()):
            for topic, partition in list(offsets):
                if topic == name:
                    self._note(group, topic, partition, None)
        self.flush()

    def flush(self) -> None:
        """Hand what was noted to the operating system."""
        self._journal.flush()
        if self._lines > _STALE_MAX + sum(map(len, self._by_group.values())):
            self._journal.close()
            self._rewrite()

    def close(self) -> None:
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self._journal.close()

    def _note(self, group: str, topic: str, partition: int, committed: Committed | None) -> None:
        self._put(group, topic, partition, committed)
        self._write(group, topic, partition, committed)

    def _put(self, group: str, topic: str, partition: int, committed: Committed | None) -> None:
        offsets = self._by_group.setdefault(group, {})
        if committed is None:
            offsets.pop((topic, partition), None)
        else:
            offsets[topic, partition] = committed
        if not offsets:
            del self._by_group[group]

    def _write(self, group: str, topic: str, partition: int, committed: Committed | None) -> None:
        value = (committed.offset, committed.leader_epoch, committed.metadata) if committed else (None, -1, "")
        self._journal.write(json.dumps((group, topic, partition, *value)) + "\n")
        self._lines += 1

    def _rewrite(self) -> None:
        partial = self._path.with_suffix(".partial")
        self._journal = partial.open("w")
        self._lines = 0
        for group, offsets in self._by_group.items():
            for (topic, partition), committed in offsets.items():
                self._write(group, topic, partition, committed)
        self._journal.flush()
        os.fsync(self._journal.fileno())
        partial.replace(self._path)  # the open file is the renamed one from here on
