"""Artefacts: published whole or not at all, one in service, the newest few kept, damage noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.artefact import ArtefactError, ArtefactStore, Manifest, verify, write_manifest


@pytest.fixture
def store(tmp_path: Path) -> ArtefactStore:
    return ArtefactStore(tmp_path / "artefacts")


def staged(store: ArtefactStore, version: str, created_at: int = 0) -> Path:
    folder = store.stage(version)
    (folder / "weights").write_bytes(version.encode())
    write_manifest(
        folder,
        Manifest(
            version=version,
            kind="retrain",
            created_at=created_at,
            config={"seed": 1},
            events=10,
            trained_through=99,
            offsets={"events:0": 5},
            metrics={"ndcg_at_10": 0.5},
        ),
    )
    return folder


def test_a_version_is_seen_once_published_and_served_once_promoted(store: ArtefactStore) -> None:
    assert store.current() is None
    assert store.versions() == []
    folder = staged(store, "v1")
    assert store.versions() == []
    place = store.publish(folder)
    assert place == store.path("v1")
    assert store.versions() == ["v1"]
    assert store.current() is None
    store.promote("v1")
    assert store.current() == "v1"
    assert store.manifest("v1").offsets == {"events:0": 5}
    assert verify(place).checksums.keys() == {"weights"}


def test_a_version_is_published_once(store: ArtefactStore) -> None:
    store.publish(staged(store, "v1"))
    with pytest.raises(ArtefactError, match="there already"):
        store.publish(staged(store, "v1"))


def test_an_unfinished_folder_is_not_published(store: ArtefactStore) -> None:
    folder = store.stage("v1")
    with pytest.raises(ArtefactError, match="no finished artefact"):
        store.publish(folder)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: (folder / "weights").write_bytes(b"x"), "damaged"),
        (lambda folder: (folder / "weights").unlink(), "missing"),
        (lambda folder: (folder / "more").write_bytes(b""), "not in the manifest"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "expected an object with"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "cannot be read as JSON"),
    ],
)
def test_damage_is_told(store: ArtefactStore, harm: object, words: str) -> None:
    folder = staged(store, "v1")
    assert callable(harm)
    harm(folder)
    with pytest.raises(ArtefactError, match=words):
        verify(folder)


def test_the_newest_and_the_one_in_service_are_kept(store: ArtefactStore) -> None:
    for number in range(1, 6):
        store.publish(staged(store, f"v{number}", created_at=number))
    store.promote("v1")
    assert store.prune(2) == ["v2", "v3"]
    assert store.versions() == ["v1", "v4", "v5"]


def test_the_pointer_is_not_moved_past_another_that_moved_it(store: ArtefactStore) -> None:
    for number in range(1, 4):
        store.publish(staged(store, f"v{number}", created_at=number))
    store.promote("v1", instead_of=None)
    store.promote("v2", instead_of="v1")
    with pytest.raises(ArtefactError, match="v2 went into service meanwhile, in place of v1"):
        store.promote("v3", instead_of="v1")
    assert store.current() == "v2"


def test_a_version_that_would_leave_the_folder_is_refused(store: ArtefactStore) -> None:
    for version in ("../v1", "", ".hidden", "a/b"):
        with pytest.raises(ArtefactError, match="is no version"):
            store.path(version)


def test_a_pointer_to_nowhere_is_told(store: ArtefactStore) -> None:
    store.root.mkdir(parents=True)
    (store.root / "current.json").write_text('{"version": "gone"}')
    with pytest.raises(ArtefactError, match="names gone"):
        store.current()
    (store.root / "current.json").write_text("[]")
    with pytest.raises(ArtefactError, match="expected"):
        store.current()
