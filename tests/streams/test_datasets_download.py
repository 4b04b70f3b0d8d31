"""Fetching from a server on this machine: what is checked, what is unpacked, and what is refused."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from streams.datasets import DatasetError
from streams.datasets.download import SOURCES, Source, get


class Publisher:
    """A server of files out of memory."""

    def __init__(self) -> None:
        files: dict[str, bytes] = {}
        redirects: dict[str, str] = {}
        self.files, self.redirects = files, redirects

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path in redirects:
                    self.send_response(302)
                    self.send_header("Location", redirects[self.path])
                    self.end_headers()
                    return
                body = files.get(self.path)
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Length", str(len(body or b"") + (100 if "short" in self.path else 0)))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    publisher = Publisher()
    thread = threading.Thread(target=publisher.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield publisher
    publisher.server.shutdown()
    thread.join()
    publisher.server.server_close()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, target in (links or {}).items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def fetched(publisher: Publisher, to: Path, path: str, content: bytes, **checks: object) -> Path:
    publisher.files[path] = content
    source = Source(publisher.url + path, max_bytes=100_000, max_unpacked_bytes=1_000_000, **checks)  # type: ignore[arg-type]
    return get("set", to, sources={"set": (source,)})


def test_an_archive_is_checked_unpacked_flat_and_reported(publisher: Publisher, tmp_path: Path) -> None:
    content = zipped({"ml-1m/": b"", "ml-1m/ratings.dat": b"1::1::5::1\n", "ml-1m/README": b"read me"})
    publisher.files |= {"/ml.zip": content, "/ml.zip.md5": f"MD5 (ml.zip) = {md5(content).upper()}\n".encode()}
    steps: list[tuple[int, int | None]] = []
    source = Source(f"{publisher.url}/ml.zip", max_bytes=10_000, max_unpacked_bytes=10_000, md5_beside=True)
    folder = get("set", tmp_path / "a" / "ml", progress=lambda *step: steps.append(step), sources={"set": (source,)})
    assert folder == tmp_path / "a" / "ml"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "SHA256SUMS": f"{hashlib.sha256(content).hexdigest()}  ml.zip\n".encode(),
        "ratings.dat": b"1::1::5::1\n",
        "README": b"read me",
    }
    assert steps == [(len(content), len(content))]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["ml"]


def test_plain_files_are_fetched_side_by_side(publisher: Publisher, tmp_path: Path) -> None:
    publisher.files |= {"/x/ratings.dat": b"1", "/x/movies.dat": b"2"}
    sources = {
        "set": tuple(
            Source(f"{publisher.url}/x/{name}", max_bytes=10, sha256=hashlib.sha256(content).hexdigest())
            for name, content in (("ratings.dat", b"1"), ("movies.dat", b"2"))
        )
    }
    get("set", tmp_path, sources=sources)
    assert {path.name for path in tmp_path.iterdir()} == {"ratings.dat", "movies.dat", "SHA256SUMS"}


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_no_name_in_an_archive_leads_out_of_the_folder(publisher: Publisher, tmp_path: Path, pack: object) -> None:
    hostile = {
        "../../up.csv": b"u",
        "/etc/root.csv": b"r",
        "..\\..\\windows.csv": b"w",
        "a/../b/in.csv": b"i",
        "run.py": b"!",
    }
    content = pack(hostile)  # type: ignore[operator]
    fetched(publisher, tmp_path / "deep" / "set", "/set.bin", content)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == {
        f"deep/set/{name}" for name in ("up.csv", "root.csv", "windows.csv", "in.csv", "SHA256SUMS")
    }


def test_links_in_an_archive_are_passed_over(publisher: Publisher, tmp_path: Path) -> None:
    content = tarred({"log.csv": b"mine"}, links={"log.csv": str(tmp_path / "victim"), "passwd": "/etc/passwd"})
    fetched(publisher, tmp_path / "set", "/set.tar.gz", content)
    assert {path.name for path in (tmp_path / "set").iterdir()} == {"log.csv", "SHA256SUMS"}
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_that_unpacks_to_too_much_is_refused(publisher: Publisher, tmp_path: Path, pack: object) -> None:
    bomb = pack({"log.csv": bytes(1_000_001)})  # type: ignore[operator]
    with pytest.raises(DatasetError, match="unpacks to over 1,000,000 bytes"):
        fetched(publisher, tmp_path / "set", "/set.bin", bomb)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_checksum_is_refused_and_leaves_nothing(publisher: Publisher, tmp_path: Path) -> None:
    content = zipped({"a.csv": b"1"})
    publisher.files["/beside.zip.md5"] = md5(b"other").encode()
    for path, checks, message in (
        ("/a.zip", {"md5": md5(b"other")}, "MD5"),
        ("/b.zip", {"sha256": "0" * 64}, "SHA-256"),
        ("/beside.zip", {"md5_beside": True}, "MD5"),
    ):
        with pytest.raises(DatasetError, match=f"its {message} is .*do not use it"):
            fetched(publisher, tmp_path / "set", path, content, **checks)
    assert list(tmp_path.iterdir()) == []


def test_a_set_fetched_before_is_pinned_to_what_it_was(publisher: Publisher, tmp_path: Path) -> None:
    content = zipped({"a.csv": b"1"})
    fetched(publisher, tmp_path, "/a.zip", content)
    (tmp_path / "a.csv").unlink()
    with pytest.raises(DatasetError, match=r"its SHA-256 is .*as .*SHA256SUMS pins it"):
        fetched(publisher, tmp_path, "/a.zip", zipped({"a.csv": b"2"}))
    fetched(publisher, tmp_path, "/a.zip", content)
    assert (tmp_path / "a.csv").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("/short.zip", zipped({"a": b"1"}), "bytes; try again"),
        ("/large.zip", bytes(100_001), "larger than 100,000 bytes"),
        ("/broken.zip", b"no archive at all", "no usable archive"),
        ("/cut.tar.gz", tarred({"a.csv": bytes(range(256)) * 50})[:-40], "no usable archive"),
        ("/two.zip", zipped({"x/a.csv": b"1", "y/a.csv": b"2"}), "two files named a.csv"),
    ],
)
def test_what_is_not_the_published_archive_is_refused(
    publisher: Publisher, tmp_path: Path, path: str, content: bytes, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        fetched(publisher, tmp_path / "set", path, content)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_has_no_such_file_or_is_not_there_is_named(publisher: Publisher, tmp_path: Path) -> None:
    gone = Source(f"{publisher.url}/gone.zip", max_bytes=10)
    away = Source("http://127.0.0.1:9/away.zip", max_bytes=10)
    with pytest.raises(DatasetError, match=r"gone\.zip: the server answered 404"):
        get("set", tmp_path, sources={"set": (gone,)})
    with pytest.raises(DatasetError, match=r"away.zip cannot be fetched: .*network\?"):
        get("set", tmp_path, sources={"set": (away,)})


def test_nothing_is_fetched_in_the_clear_nor_by_a_redirect_to_it(publisher: Publisher, tmp_path: Path) -> None:
    publisher.redirects["/moved.zip"] = "http://example.org/set.zip"
    for url in ("http://example.org/set.zip", "file:///etc/passwd", f"{publisher.url}/moved.zip"):
        with pytest.raises(DatasetError, match="only https"):
            get("set", tmp_path, sources={"set": (Source(url, max_bytes=10),)})


def test_a_file_that_is_there_already_is_not_overwritten(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(DatasetError, match=r"a\.csv is there already"):
        fetched(publisher, tmp_path, "/a.zip", zipped({"x/a.csv": b"1", "x/b.csv": b"2"}))
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_every_set_comes_over_https_with_a_checksum() -> None:
    for source in (source for sources in SOURCES.values() for source in sources):
        assert source.url.startswith("https://")
        assert source.md5 or source.sha256 or source.md5_beside
    with pytest.raises(DatasetError, match="'netflix' cannot be fetched; these can: kuairand-pure"):
        get("netflix", Path("nowhere"))
