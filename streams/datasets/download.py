"""Fetching a data set from its publisher: over HTTPS, checked, and unpacked without trust in the archive.

What is checked against what:
- `kuairand-pure`, `ml-1m`, `ml-25m`: the MD5 that the publisher states, recorded here.
- `ml-latest-small`, `ml-latest`, `ml-32m`: sets that GroupLens may replace, so the MD5 is fetched from beside the file.
  That catches a damaged transfer, and no more: whoever can change the file can change its `.md5`.
- `movietweetings-100k`: files of one commit, by recorded SHA-256.
The SHA-256 of what was fetched is kept in the folder's `SHA256SUMS`; where that lies already, it is insisted on, so
that any set can be pinned to what one once had.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path, PurePosixPath
from typing import IO, Final
from urllib.parse import urlsplit

from streams.datasets.dataset import DatasetError

Progress = Callable[[int, int | None], None]
"""Called with the bytes fetched of a file so far, and the bytes in all where the server says; anew for each file."""

_CHUNK: Final = 1 << 20
_TIMEOUT_S: Final = 60.0
_SUMS: Final = "SHA256SUMS"


@dataclass(frozen=True)
class Source:
    """One file of a publisher.

    Attributes:
        url: where it is.
        max_bytes: the most that is fetched, and `max_unpacked_bytes` the most that comes out of an archive; 0 for a
            file that is no archive.
        md5, sha256: its recorded checksum; `md5_beside` says that the publisher keeps one at `url` + ".md5".
    """

    url: str
    max_bytes: int
    max_unpacked_bytes: int = 0
    md5: str | None = None
    sha256: str | None = None
    md5_beside: bool = False


_MB: Final = 1_000_000
_GROUPLENS: Final = "https://files.grouplens.org/datasets/movielens"
_MOVIETWEETINGS: Final = (
    "https://raw.githubusercontent.com/sidooms/MovieTweetings/4d8280a3f1ea83e3e23f13d1710d19f43564274f/snapshots/100K"
)

SOURCES: Final[dict[str, tuple[Source, ...]]] = {
    "kuairand-pure": (
        Source(
            "https://zenodo.org/records/10439422/files/KuaiRand-Pure.tar.gz",
            max_bytes=100 * _MB,
            max_unpacked_bytes=500 * _MB,
            md5="0820331067a3784d9691136f772b35a7",
        ),
    ),
    "ml-1m": (
        Source(
            f"{_GROUPLENS}/ml-1m.zip",
            max_bytes=20 * _MB,
            max_unpacked_bytes=100 * _MB,
            md5="c4d9eecfca2ab87c1945afe126590906",
        ),
    ),
    "ml-latest-small": (
        Source(f"{_GROUPLENS}/ml-latest-small.zip", max_bytes=10 * _MB, max_unpacked_bytes=50 * _MB, md5_beside=True),
    ),
    "ml-latest": (
        Source(f"{_GROUPLENS}/ml-latest.zip", max_bytes=2_000 * _MB, max_unpacked_bytes=8_000 * _MB, md5_beside=True),
    ),
    "ml-25m": (
        Source(
            f"{_GROUPLENS}/ml-25m.zip",
            max_bytes=500 * _MB,
            max_unpacked_bytes=3_000 * _MB,
            md5="6b51fb2759a8657d3bfcbfc42b592ada",
        ),
    ),
    "ml-32m": (
        Source(f"{_GROUPLENS}/ml-32m.zip", max_bytes=500 * _MB, max_unpacked_bytes=3_000 * _MB, md5_beside=True),
    ),
    "movietweetings-100k": (
        Source(
            f"{_MOVIETWEETINGS}/ratings.dat",
            max_bytes=10 * _MB,
            sha256="c0dd868c2632d10002ebc928ddc5345f33adeaa59eca52c2941c26a2c5e36fd6",
        ),
        Source(
            f"{_MOVIETWEETINGS}/movies.dat",
            max_bytes=10 * _MB,
            sha256="e63fb84bc734e3c574f135634a40d3cbafab22b8f94f5fc0b80f80d1d2076efc",
        ),
    ),
}


def get(
    name: str,
    to: Path,
    *,
    progress: Progress | None = None,
    sources: Mapping[str, tuple[Source, ...]] = SOURCES,
) -> Path:
    """Fetch a data set into the folder `to`, made if it is not there, ready for `open_dataset(name, to)`.

    Nothing lies in `to` before all of it is fetched, checked and unpacked.

    Args:
        sources: where the sets are; a mirror of one's own takes the same shape.

    Returns:
        `to`.

    Raises:
        DatasetError: no such set, no connection, a checksum that differs, an archive that is not what it should be,
            or a file in the way.
    """
    if name not in sources:
        raise DatasetError(f"{name!r} cannot be fetched; these can: {', '.join(sources)}")
    pinned = _pinned(to / _SUMS)
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{to.name}-", dir=to.parent) as scratch:
        unpacked = Path(scratch) / "unpacked"
        unpacked.mkdir()
        for source in sources[name]:
            file = PurePosixPath(urlsplit(source.url).path).name
            fetched = Path(scratch) / file
            found = _fetch(source, fetched, progress)
            if pinned.setdefault(file, found) != found:
                raise DatasetError(f"{source.url}: its SHA-256 is {found}, not {pinned[file]} as {to / _SUMS} pins it")
            if source.max_unpacked_bytes:
                _unpack(fetched, unpacked, source.max_unpacked_bytes)
            else:
                fetched.rename(unpacked / file)
        to.mkdir(exist_ok=True)
        for path in unpacked.iterdir():
            if (to / path.name).exists():
                raise DatasetError(f"{to / path.name} is there already; remove it or name another folder")
        for path in unpacked.iterdir():
            path.rename(to / path.name)
        (to / _SUMS).write_text("".join(f"{sha256}  {file}\n" for file, sha256 in sorted(pinned.items())))
    return to


def _pinned(sums: Path) -> dict[str, str]:
    """The SHA-256 of files by name, out of a file as `sha256sum` writes it; empty where there is none."""
    lines = sums.read_text().splitlines() if sums.is_file() else []
    return {file: sha256 for sha256, _, file in (line.partition("  ") for line in lines)}


def _fetch(source: Source, to: Path, progress: Progress | None) -> str:
    """Fetch one file and check it; returns its SHA-256."""
    md5, sha256, done = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    with _open(source.url) as response, to.open("wb") as file:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        while chunk := response.read(_CHUNK):
            done += len(chunk)
            if done > source.max_bytes:
                raise DatasetError(f"{source.url} is larger than {source.max_bytes:,} bytes; it is not what it was")
            md5.update(chunk)
            sha256.update(chunk)
            file.write(chunk)
            if progress is not None:
                progress(done, total)
    if total is not None and done != total:
        raise DatasetError(f"{source.url}: got {done:,} of {total:,} bytes; try again")
    expected_md5 = _md5_beside(source.url) if source.md5_beside else source.md5
    for kind, is_, should_be in (
        ("MD5", md5.hexdigest(), expected_md5),
        ("SHA-256", sha256.hexdigest(), source.sha256),
    ):
        if should_be is not None and is_ != should_be:
            raise DatasetError(f"{source.url}: its {kind} is {is_}, the publisher's is {should_be}; do not use it")
    return sha256.hexdigest()


def _md5_beside(url: str) -> str:
    with _open(f"{url}.md5") as response:
        found = re.search(rb"\b[0-9a-fA-F]{32}\b", response.read(4096))
    if found is None:
        raise DatasetError(f"{url}.md5 holds no MD5 checksum")
    return found[0].decode().lower()


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from HTTPS to something readable on the way."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: object, newurl: str
    ) -> urllib.request.Request | None:
        _require_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


@contextmanager
def _open(url: str) -> Iterator[HTTPResponse]:
    _require_https(url)
    request = urllib.request.Request(url, headers={"User-Agent": "millstream"})  # noqa: S310 - checked above
    try:
        with urllib.request.build_opener(_HttpsOnly).open(request, timeout=_TIMEOUT_S) as response:
            yield response
    except urllib.error.HTTPError as error:
        raise DatasetError(f"{url}: the server answered {error.code} {error.reason}") from None
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "reason", error)
        raise DatasetError(f"{url} cannot be fetched: {reason}; is there a network?") from None


def _require_https(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")):
        raise DatasetError(f"{url}: only https is fetched, and http from this machine itself")


def _unpack(archive: Path, to: Path, max_bytes: int) -> None:
    """Write the archive's plain files side by side into `to`, by the last part of their names.

    Folders in the archive are dropped, so no name in it can lead anywhere else. Bytes are counted as they come out,
    whatever the archive says of its sizes.
    """
    budget = max_bytes
    try:
        for name, member in _members(archive):
            base = PurePosixPath(name.replace("\\", "/")).name
            if not base or base.startswith(".") or base.endswith(".py"):
                continue
            path = to / base
            if path.exists():
                raise DatasetError(f"{archive.name} holds two files named {base}; it is not what it was")
            with path.open("wb") as file:
                while chunk := member.read(_CHUNK):
                    budget -= len(chunk)
                    if budget < 0:
                        raise DatasetError(f"{archive.name} unpacks to over {max_bytes:,} bytes; it is not what it was")
                    file.write(chunk)
    except _UNREADABLE as error:
        raise DatasetError(f"{archive.name} is no usable archive: {error}") from None


#: What the standard library raises on a broken, encrypted or oddly packed archive.
_UNREADABLE: Final = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, RuntimeError,
)  # fmt: skip


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The plain files of a .zip or .tar.gz archive: folders, links and devices are passed over."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as unzipped:
            for entry in unzipped.infolist():
                if not entry.is_dir():
                    with unzipped.open(entry) as stream:
                        yield entry.filename, stream
    else:
        with tarfile.open(archive, "r:gz") as untarred:
            for item in untarred:
                member = untarred.extractfile(item) if item.isreg() else None
                if member is not None:
                    yield item.name, member
