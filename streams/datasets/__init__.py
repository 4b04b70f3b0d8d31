"""Published interaction logs as events, items and users: one reader for each publisher's own layout.

`open_dataset(name, folder)` is the way in; the names are the keys of `READERS`.
"""

from pathlib import Path
from typing import Final

from streams.datasets.dataset import Dataset, DatasetError, LoggedEvent
from streams.datasets.films import MovieLens1M, MovieLensLatest, MovieTweetings
from streams.datasets.jsonl import Jsonl
from streams.datasets.kuairand import KuaiRand

READERS: Final[dict[str, type[Dataset]]] = {
    "kuairand-pure": KuaiRand,
    "kuairand-1k": KuaiRand,
    "ml-1m": MovieLens1M,
    "ml-latest-small": MovieLensLatest,
    "ml-latest": MovieLensLatest,
    "ml-25m": MovieLensLatest,
    "ml-32m": MovieLensLatest,
    "movietweetings-100k": MovieTweetings,
    "movietweetings": MovieTweetings,
    "jsonl": Jsonl,
}


def open_dataset(name: str, folder: Path) -> Dataset:
    """The data set of that name in a folder.

    Raises:
        DatasetError: there is no such name or folder, or a file of the layout is missing.
    """
    if name not in READERS:
        raise DatasetError(f"no data set is named {name!r}; there are {', '.join(READERS)}")
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder; the files of {name} are needed in it")
    return READERS[name](name, folder)


__all__ = ["READERS", "Dataset", "DatasetError", "LoggedEvent", "open_dataset"]
