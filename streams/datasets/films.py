"""Film ratings as GroupLens and MovieTweetings publish them: MovieLens 1M, MovieLens latest and MovieTweetings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from streams.contract.events import Event, ItemRecord, UserRecord, encode
from streams.datasets.dataset import Dataset, LoggedEvent
from streams.datasets.rows import Line, colon_rows, csv_rows, in_order_of_time, malformed, millis_of, year_of

_MOVIELENS_CITATION = (
    "F. M. Harper, J. A. Konstan. The MovieLens Datasets: History and Context. ACM Transactions on Interactive "
    "Intelligent Systems 5, 4, Article 19 (2015). https://doi.org/10.1145/2827872"
)
_NO_GENRES = "(no genres listed)"
_AGES = {
    "1": "under 18", "18": "18-24", "25": "25-34", "35": "35-44", "45": "45-49", "50": "50-55", "56": "56+",
}  # fmt: skip
_OCCUPATIONS = (
    "", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)  # fmt: skip
_EXTRAS = (
    "MovieID", "Title", "Year", "Certificate", "Released", "Genres", "Director", "Writers", "Actors", "Plot", "Poster",
)  # fmt: skip
_ACTORS = 5


class MovieLens1M(Dataset):
    """`ratings.dat`, `users.dat` and `movies.dat`, and `movies_extrainfos.dat` where it lies beside them.

    The last is not GroupLens's own: it adds director, actors, certificate, plot and release date to the films.
    """

    title = "MovieLens 1M, film ratings with the raters' age, gender and occupation"
    licence = "research only, no redistribution, no commercial use (README of the set)"
    citation = _MOVIELENS_CITATION
    homepage = "https://grouplens.org/datasets/movielens/1m/"

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder)
        self._ratings, self._users, self._movies = map(self._file, ("ratings.dat", "users.dat", "movies.dat"))

    def items(self) -> Iterator[ItemRecord]:
        """The films, with all that is known of them."""
        path = self.folder / "movies_extrainfos.dat"
        extras = {row[0]: row for _, row in colon_rows(path, _EXTRAS, "utf-8")} if path.is_file() else {}
        for _, (item_id, title, genres) in colon_rows(self._movies, ("MovieID", "Title", "Genres"), "latin-1"):
            extra = dict(zip(_EXTRAS, extras.get(item_id, ()), strict=False))
            extra = {name: value for name, value in extra.items() if value not in ("", "N/A")}
            yield _film(
                item_id,
                title,
                genres,
                released=millis_of(extra.get("Released", ""), "%d %b %Y"),
                plot=extra.get("Plot", ""),
                director=[name.split("(")[0].strip() for name in _listed(extra.get("Director"))],
                actor=_listed(extra.get("Actors"))[:_ACTORS],
                certificate=_listed(extra.get("Certificate")),
            )

    def users(self) -> Iterator[UserRecord]:
        """The raters; of the ZIP code only the first digit, a group of states, is taken."""
        columns = ("UserID", "Gender", "Age", "Occupation", "Zip-code")
        for line, (user_id, gender, age, occupation, zip_code) in colon_rows(self._users, columns, "latin-1"):
            if age not in _AGES or not occupation.isdecimal() or int(occupation) >= len(_OCCUPATIONS):
                raise malformed(self._users, line, "an age and an occupation out of the codes of the set's README")
            profile = {
                "gender": [gender],
                "age": [_AGES[age]],
                "occupation": [_OCCUPATIONS[int(occupation)]],
                "region": [zip_code[:1]],
            }
            yield UserRecord(user_id=user_id, categorical={name: v for name, v in profile.items() if v[0]})

    def events(self) -> Iterator[LoggedEvent]:
        """Every rating, on its scale of 5."""
        return _ratings(self._ratings, b"::", headers=0, scale=5)


class MovieLensLatest(Dataset):
    """`ratings.csv` and `movies.csv`: MovieLens latest, latest-small, 25M and 32M.

    `tags.csv` is left out on purpose: a tag given years after a rating would tell the catalogue of the replay's
    first day what people came to think of the film. `links.csv` says nothing of the films themselves.
    """

    title = "MovieLens latest, film ratings in half stars"
    licence = "research, redistribution under the same terms, no commercial use (README of the set)"
    citation = _MOVIELENS_CITATION
    homepage = "https://grouplens.org/datasets/movielens/latest/"

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder)
        self._ratings, self._movies = map(self._file, ("ratings.csv", "movies.csv"))

    def items(self) -> Iterator[ItemRecord]:
        """The films, with genres and year."""
        for _, row in csv_rows(self._movies, ("movieId", "title", "genres")):
            yield _film(row["movieId"], row["title"], row["genres"])

    def users(self) -> Iterator[UserRecord]:
        """None: the publisher gives nothing of the raters but their ids."""
        return iter(())

    def events(self) -> Iterator[LoggedEvent]:
        """Every rating, on its scale of 5."""
        return _ratings(self._ratings, b",", headers=1, scale=5)


class MovieTweetings(Dataset):
    """`ratings.dat` and `movies.dat`; `users.dat`, which maps the raters to Twitter accounts, is not read."""

    title = "MovieTweetings, film ratings out of tweets"
    licence = "MIT"
    citation = (
        "S. Dooms, T. De Pessemier, L. Martens. MovieTweetings: a Movie Rating Dataset Collected From Twitter. "
        "CrowdRec at RecSys 2013."
    )
    homepage = "https://github.com/sidooms/MovieTweetings"

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder)
        self._ratings, self._movies = map(self._file, ("ratings.dat", "movies.dat"))

    def items(self) -> Iterator[ItemRecord]:
        """The films, with genres and year."""
        for _, (item_id, title, genres) in colon_rows(self._movies, ("movie_id", "title", "genres"), "utf-8"):
            yield _film(item_id, title, genres)

    def users(self) -> Iterator[UserRecord]:
        """None: the publisher gives nothing of the raters but their accounts."""
        return iter(())

    def events(self) -> Iterator[LoggedEvent]:
        """Every rating, on its scale of 10."""
        return _ratings(self._ratings, b"::", headers=0, scale=10)


def _film(
    item_id: str, title: str, genres: str, *, released: int | None = None, plot: str = "", **features: list[str]
) -> ItemRecord:
    year = year_of(title)
    categorical = {
        "genre": [genre for genre in genres.split("|") if genre and genre != _NO_GENRES],
        "decade": [f"{year // 10 * 10}s"] if year else [],
        **features,
    }
    return ItemRecord(
        item_id=item_id,
        title=title.strip(),
        published_at=released,
        categorical={name: values for name, values in categorical.items() if values},
        numeric={"year": float(year)} if year else {},
        text={"plot": plot} if plot else {},
    )


def _listed(text: str | None) -> list[str]:
    return [part.strip() for part in text.split(",")] if text else []


def _ratings(path: Path, separator: bytes, *, headers: int, scale: float) -> Iterator[LoggedEvent]:
    expected = separator.decode().join(("user", "item", "rating", "time in seconds"))

    def ts_of(line: Line) -> int:
        try:
            return int(line.content.rpartition(separator)[2]) * 1000
        except ValueError:
            raise malformed(path, line.number, expected) from None

    for ts, line in in_order_of_time([path], ts_of, headers=headers):
        try:
            user_id, item_id, rating, _ = line.content.decode().split(separator.decode())
            value = float(rating)
        except ValueError:
            raise malformed(path, line.number, expected) from None
        if not (user_id and item_id and math.isfinite(value)):
            raise malformed(path, line.number, expected)
        event = Event(type="rating", user_id=user_id, item_id=item_id, ts=ts, value=value, scale=scale)
        yield LoggedEvent(ts, user_id, encode(event))
