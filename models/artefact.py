"""Artefacts: finished model folders with a manifest, renamed into place, and one pointer to the one in service.

Nothing in an artefact can run code when it is loaded: JSON, safetensors, npz without pickles, and FAISS indexes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import EllipsisType
from typing import Any, Final

MANIFEST: Final = "manifest.json"
POINTER: Final = "current.json"
FORMAT: Final = 1
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_STAGED: Final = ".staged-"
_LOCK: Final = ".lock"


class ArtefactError(Exception):
    """An artefact that cannot be used: the message says which file, what is wrong with it and what would be right."""


@dataclass(frozen=True)
class Manifest:
    """What an artefact is and came from.

    Attributes:
        kind: `retrain` or `fine-tune`.
        created_at: clock time in ms.
        config: the training configuration, as plain JSON.
        events: interactions it was trained on.
        trained_through: event time in ms of the newest of them.
        offsets: Kafka offset up to which the sample log was read, by name of the log's partition.
        checksums: sha256 of each file beside the manifest, by name.
    """

    version: str
    kind: str
    created_at: int
    config: Mapping[str, Any]
    events: int
    trained_through: int
    offsets: Mapping[str, int]
    metrics: Mapping[str, float]
    checksums: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of the files that lie in `folder`, with their checksums."""
    checksums = {path.name: _sha256(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    content = asdict(manifest) | {"checksums": checksums}
    (folder / MANIFEST).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an artefact.

    Raises:
        ArtefactError: it is missing or malformed.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ArtefactError(f"{path} is missing: {folder} is no finished artefact") from None
    except (ValueError, OSError) as error:
        raise ArtefactError(f"{path} cannot be read as JSON: {error}") from None
    names = {each.name for each in fields(Manifest)}
    if not isinstance(content, dict) or set(content) != names:
        raise ArtefactError(f"{path}: expected an object with {', '.join(sorted(names))}")
    if content["format"] != FORMAT:
        raise ArtefactError(f"{path}: format {content['format']!r}; this version of millstream reads format {FORMAT}")
    return Manifest(**content)


def verify(folder: Path) -> Manifest:
    """Check every file of an artefact against its manifest.

    Raises:
        ArtefactError: a file is missing, not listed, or differs from its checksum.
    """
    manifest = read_manifest(folder)
    present = {path.name for path in folder.iterdir()} - {MANIFEST}
    listed = set(manifest.checksums)
    if present != listed:
        raise ArtefactError(
            f"{folder}: missing {sorted(listed - present)}, not in the manifest {sorted(present - listed)}"
        )
    for name, expected in manifest.checksums.items():
        actual = _sha256(folder / name)
        if actual != expected:
            raise ArtefactError(
                f"{folder / name}: sha256 is {actual}, the manifest says {expected}; the file is damaged"
            )
    return manifest


class ArtefactStore:
    """The artefacts under one folder; one process publishes, several may move the pointer, any number read."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def stage(self, version: str) -> Path:
        """An empty folder to build the artefact in; what an earlier attempt left there is gone."""
        self._check(version)
        staged = self.root / (_STAGED + version)
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        return staged

    def publish(self, staged: Path) -> Path:
        """Rename a staged folder, which must have its manifest, into place; durable once this returns.

        Raises:
            ArtefactError: the folder is not whole, or the version is there already.
        """
        manifest = verify(staged)
        place = self.path(manifest.version)
        if place.exists():
            raise ArtefactError(f"{place} is there already; a version is published once")
        for path in staged.iterdir():
            _sync(path)
        _sync(staged)
        staged.rename(place)
        _sync(self.root)
        return place

    def promote(self, version: str, *, instead_of: str | EllipsisType | None = ...) -> None:
        """Point to `version` as the one in service; a reader sees the old pointer or the new one, never a part.

        Args:
            instead_of: the version that has to be in service until now (None: none); by default whichever is.

        Raises:
            ArtefactError: the version is not there, or another one than `instead_of` is in service.
        """
        with self._locked():
            manifest = read_manifest(self.path(version))
            current = self.current()
            if instead_of is not ... and current != instead_of:
                raise ArtefactError(f"{current} went into service meanwhile, in place of {instead_of}")
            staged = self.root / (POINTER + ".staged")
            staged.write_text(json.dumps({"version": manifest.version}) + "\n", encoding="utf-8")
            _sync(staged)
            os.replace(staged, self.root / POINTER)
            _sync(self.root)

    def current(self) -> str | None:
        """The version in service, None before the first.

        Raises:
            ArtefactError: the pointer is malformed, or names a version that is not there.
        """
        pointer = self.root / POINTER
        try:
            version = json.loads(pointer.read_bytes())["version"]
            self._check(version)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ArtefactError(f'{pointer}: expected {{"version": …}}: {error}') from None
        if not self.path(version).is_dir():
            raise ArtefactError(f"{pointer} names {version}, which is not in {self.root}")
        return str(version)

    def path(self, version: str) -> Path:
        """Where a version lies."""
        self._check(version)
        return self.root / version

    def manifest(self, version: str) -> Manifest:
        """The manifest of a published version."""
        return read_manifest(self.path(version))

    def versions(self) -> list[str]:
        """The published versions, oldest first."""
        found = [path for path in self._folders() if (path / MANIFEST).is_file()]
        return [path.name for path in sorted(found, key=lambda path: (read_manifest(path).created_at, path.name))]

    def prune(self, keep: int) -> list[str]:
        """Delete all but the newest `keep` versions and the one in service; returns what was deleted."""
        with self._locked():
            current = self.current()
            gone = [version for version in self.versions()[: -keep or None] if version != current]
            for version in gone:
                # renamed first, so that a reader never finds half an artefact under a version's name
                doomed = self.root / (_STAGED + version)
                self.path(version).rename(doomed)
                shutil.rmtree(doomed)
            return gone

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the pointer, against other processes too: it is moved by the trainer and by hand."""
        with (self.root / _LOCK).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # let go when the file is closed
            yield

    def _folders(self) -> Iterable[Path]:
        if not self.root.is_dir():
            return []
        return [path for path in self.root.iterdir() if path.is_dir() and _VERSION.fullmatch(path.name)]

    @staticmethod
    def _check(version: str) -> None:
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            raise ArtefactError(
                f"{version!r} is no version; letters, digits, '.', '_' and '-', first a letter or digit"
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
