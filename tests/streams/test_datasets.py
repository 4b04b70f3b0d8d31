"""Each reader on a few lines in its publisher's layout: what becomes an event, in which order, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.contract.events import Event, decode_event
from streams.datasets import READERS, DatasetError, open_dataset
from streams.datasets.rows import Line, in_order_of_time

LOG = "user_id,video_id,date,hourmin,time_ms,is_like,is_forward,is_hate,play_time_ms,duration_ms,tab\n"
KUAIRAND = {
    "log_standard_4_22_to_5_08_pure.csv": LOG
    + "7,1,20220425,0,1650812800000,0,0,0,5000,10000,1\n"
    + "8,2,20220425,0,1650812700000,1,0,0,0,0,1\n"
    + "7,1,20220425,0,1650812800000,0,0,0,5000,10000,1\n"
    + "7,1,20220425,0,1650812800000,0,0,0,5000,10000,2\n",
    "log_random_4_22_to_5_08_pure.csv": LOG
    + "9,3,20220425,0,1650812750000,1,1,0,100,10000,1\n"
    + "9,4,20220425,0,1650812700000,0,1,1,100,10000,1\n",
    "user_features_pure.csv": "user_id,user_active_degree,is_live_streamer,fans_user_num_range,onehot_feat12\n"
    '7,full_active,-124,"[100,1k)",1.0\n8,UNKNOWN,1,,\n',
    "video_features_basic_pure.csv": "video_id,author_id,video_type,upload_dt,upload_type,video_duration,music_id,tag\n"
    '1,55,NORMAL,2022-04-10,Web,10000.0,9,"12,65"\n2,56,AD,2022-04-10,Web,,0,\n',
}
ML_1M = {
    "ratings.dat": "1::3186::4::978300760\n1::1::5::978300719\n2::1::1::978300760\n",
    "users.dat": "1::F::1::10::48067\n2::M::56::0::70072\n",
    "movies.dat": "1::Toy Story (1995)::Animation|Children's\n3186::Les Misérables (1995)::Drama\n",
    "movies_extrainfos.dat": "1::Toy Story::1995::G::22 Nov 1995::Animation::"
    "John Lasseter, Ash Brannon(co-director)::W::A, B, C, D, E, F::Toys: alive.::http://poster\r\n3186::X::1995::N/A::N/A::N/A::N/A::N/A::N/A::N/A::N/A\r\n",
}
ML_LATEST = {
    "ratings.csv": "userId,movieId,rating,timestamp\r\n1,1,4.5,964982703\r\n1,2,0.5,964981247\r\n",
    "movies.csv": "movieId,title,genres\n"
    '1,"American President, The (1995)",Comedy|Drama\n2,Babylon 5,(no genres listed)\n',
    "tags.csv": "userId,movieId,tag,timestamp\n2,1,spoiler,1445714994\n",
}
MOVIETWEETINGS = {
    "ratings.dat": "1::0002844::10::1365029107\n",
    "movies.dat": "0002844::Fantômas (1913)::Crime|Drama\n0021283::Rakudai wa shitakeredo (1930)::\n",
}
LAYOUTS = {
    "kuairand-pure": KUAIRAND,
    "ml-1m": ML_1M,
    "ml-latest-small": ML_LATEST,
    "movietweetings-100k": MOVIETWEETINGS,
    "jsonl": {"events.jsonl": '{"type":"visit","user_id":"u","ts":1}\n'},
}


def written(folder: Path, files: Mapping[str, str], encoding: str = "utf-8") -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text.encode(encoding if name == "movies.dat" else "utf-8"))
    return folder


def events_of(name: str, folder: Path) -> list[Event]:
    return [decode_event(event.raw) for event in open_dataset(name, folder).events()]


def test_kuairand_rows_come_from_every_log_by_time_and_then_by_place(tmp_path: Path) -> None:
    events = events_of("kuairand-pure", written(tmp_path, KUAIRAND))
    assert [(event.user_id, event.item_id) for event in events] == [
        ("9", "4"), ("8", "2"), ("9", "3"), ("7", "1"), ("7", "1"), ("7", "1"),
    ]  # fmt: skip
    assert [event.type for event in events] == ["dislike", "like", "share", "watch", "watch", "watch"]
    assert (events[3].watch_s, events[3].duration_s) == (5.0, 10.0)
    assert (events[1].watch_s, events[1].duration_s) == (0.0, 0.0)


def test_kuairand_rows_are_the_same_event_exactly_when_they_are_copies(tmp_path: Path) -> None:
    events = events_of("kuairand-pure", written(tmp_path, KUAIRAND))
    assert events[3].event_id == events[4].event_id != events[5].event_id
    assert events[5].context == {"date": 20220425, "hourmin": 0, "is_like": 0, "is_forward": 0, "is_hate": 0, "tab": 2}


def test_kuairand_features_leave_out_what_the_publisher_does_not_know(tmp_path: Path) -> None:
    data = open_dataset("kuairand-pure", written(tmp_path, KUAIRAND))
    first, second = data.items()
    assert first.categorical == {
        "tag": ["12", "65"], "author": ["55"], "music": ["9"], "video_type": ["NORMAL"], "upload_type": ["Web"],
    }  # fmt: skip
    assert (first.duration_s, first.published_at) == (10.0, 1_649_520_000_000)
    assert second.duration_s is None
    assert second.categorical == {"author": ["56"], "video_type": ["AD"], "upload_type": ["Web"]}
    assert [user.categorical for user in data.users()] == [
        {"user_active_degree": ["full_active"], "fans_user_num_range": ["[100,1k)"], "onehot_feat12": ["1"]},
        {"is_live_streamer": ["1"]},
    ]


def test_kuairand_is_found_in_the_folder_that_its_archive_makes(tmp_path: Path) -> None:
    written(tmp_path / "data", KUAIRAND)
    assert len(events_of("kuairand-pure", tmp_path)) == 6


def test_ml_1m_rates_on_a_scale_of_five_and_keeps_the_order_of_the_file_on_ties(tmp_path: Path) -> None:
    events = events_of("ml-1m", written(tmp_path, ML_1M, "latin-1"))
    assert [(event.user_id, event.item_id, event.value, event.scale, event.ts) for event in events] == [
        ("1", "1", 5.0, 5.0, 978300719000),
        ("1", "3186", 4.0, 5.0, 978300760000),
        ("2", "1", 1.0, 5.0, 978300760000),
    ]


def test_ml_1m_films_take_in_the_extra_file_where_it_is_there(tmp_path: Path) -> None:
    folder = written(tmp_path, ML_1M, "latin-1")
    toys, miserables = open_dataset("ml-1m", folder).items()
    assert toys.categorical == {
        "genre": ["Animation", "Children's"],
        "decade": ["1990s"],
        "director": ["John Lasseter", "Ash Brannon"],
        "actor": ["A", "B", "C", "D", "E"],
        "certificate": ["G"],
    }
    assert (toys.text, toys.numeric, toys.published_at) == ({"plot": "Toys: alive."}, {"year": 1995.0}, 816_998_400_000)
    assert (miserables.title, miserables.published_at) == ("Les Misérables (1995)", None)
    (folder / "movies_extrainfos.dat").unlink()
    assert "director" not in next(open_dataset("ml-1m", folder).items()).categorical


def test_ml_1m_profiles_are_in_the_words_of_its_readme(tmp_path: Path) -> None:
    first, second = open_dataset("ml-1m", written(tmp_path, ML_1M, "latin-1")).users()
    assert first.categorical == {
        "gender": ["F"], "age": ["under 18"], "occupation": ["K-12 student"], "region": ["4"],
    }  # fmt: skip
    assert "occupation" not in second.categorical


def test_ml_latest_reads_quoted_titles_and_never_the_tags(tmp_path: Path) -> None:
    data = open_dataset("ml-latest-small", written(tmp_path, ML_LATEST))
    first, second = data.items()
    assert (first.title, first.categorical["genre"]) == ("American President, The (1995)", ["Comedy", "Drama"])
    assert (second.categorical, second.numeric, second.text) == ({}, {}, {})
    assert [(event.item_id, event.value) for event in events_of("ml-latest-small", tmp_path)] == [
        ("2", 0.5),
        ("1", 4.5),
    ]
    assert list(data.users()) == []


def test_movietweetings_keeps_ids_as_the_file_has_them(tmp_path: Path) -> None:
    data = open_dataset("movietweetings-100k", written(tmp_path, MOVIETWEETINGS))
    (event,) = events_of("movietweetings-100k", tmp_path)
    assert (event.item_id, event.value, event.scale) == ("0002844", 10.0, 10.0)
    assert [item.title for item in data.items()] == ["Fantômas (1913)", "Rakudai wa shitakeredo (1930)"]


def test_jsonl_passes_every_line_through_untouched_in_the_order_of_time(tmp_path: Path) -> None:
    lines = [
        b'{"user_id":"b", "ts":20,"type":"visit"}',
        b'{"ts":10,"type":"visit","user_id":"a","mine":[1]}',
        b"not json",
        b'{"ts":"soon","user_id":7}',
        b'{"ts":true,"user_id":"c"}',
        b'{"ts":5}',
    ]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join([*lines[:3], b"", b"  ", *lines[3:]]) + b"\r\n")
    events = list(open_dataset("jsonl", tmp_path).events())
    assert [event.raw for event in events] == [lines[5], *lines[1:5], lines[0]]
    assert [(event.ts, event.user_id) for event in events] == [
        (5, ""), (10, "a"), (10, ""), (10, ""), (10, "c"), (20, "b"),
    ]  # fmt: skip


def test_jsonl_needs_neither_items_nor_users_but_has_them_right(tmp_path: Path) -> None:
    data = open_dataset("jsonl", written(tmp_path, LAYOUTS["jsonl"]))
    assert not list(data.items())
    assert not list(data.users())
    (tmp_path / "items.jsonl").write_text('{"item_id":"i","title":"T"}\n\n{"item_id":7}\n')
    items = data.items()
    assert next(items).title == "T"
    with pytest.raises(DatasetError, match=r"items\.jsonl:3: malformed; item_id: .*`str`"):
        next(items)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_row_is_one_event_that_the_contract_accepts(name: str, tmp_path: Path) -> None:
    data = open_dataset(name, written(tmp_path, LAYOUTS[name], "latin-1" if name == "ml-1m" else "utf-8"))
    events = list(data.events())
    assert [event.ts for event in events] == sorted(event.ts for event in events)
    for event in events:
        decoded = decode_event(event.raw)
        assert (decoded.ts, decoded.user_id) == (event.ts, event.user_id)
    assert data.name == name
    assert data.title
    assert data.licence


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("kuairand-pure", "log_*.csv"),
        ("kuairand-pure", "user_features_*.csv"),
        ("kuairand-pure", "video_features_basic_*.csv"),
        ("ml-1m", "users.dat"),
        ("ml-latest-small", "movies.csv"),
        ("movietweetings-100k", "ratings.dat"),
        ("jsonl", "events.jsonl"),
    ],
)
def test_a_missing_file_is_named(name: str, file: str, tmp_path: Path) -> None:
    folder = written(tmp_path, LAYOUTS[name])
    for path in folder.glob(file):
        path.unlink()
    with pytest.raises(DatasetError, match=file.replace("*", r"\*")):
        open_dataset(name, folder)


@pytest.mark.parametrize(
    ("name", "file", "line", "message"),
    [
        ("kuairand-pure", "log_random_4_22_to_5_08_pure.csv", "9,3,20220425,0,x,0,0,0,1,1,1", "4: .*time_ms in ms"),
        ("kuairand-pure", "log_random_4_22_to_5_08_pure.csv", "9,3,2,0,1,0,0,0,1,1,1,1", "4: .*11 fields, got 12"),
        ("kuairand-pure", "log_random_4_22_to_5_08_pure.csv", "9,3,2,0,1,0,0,,1,1,1", "4: .*whole numbers"),
        ("kuairand-pure", "log_random_4_22_to_5_08_pure.csv", f"9,3,2,0,{10**30},0,0,0,1,1,1", "4: .*64 bits"),
        ("ml-1m", "ratings.dat", "1::2::3", "4: .*user::item::rating::time"),
        ("ml-1m", "ratings.dat", "1::2::three::978300719", "4: .*user::item::rating::time"),
        ("ml-latest-small", "ratings.csv", "1,,4.0,964982703", "4: .*user,item,rating,time"),
        ("movietweetings-100k", "ratings.dat", "1::2::nan::1365029107", "2: .*user::item::rating"),
    ],
)
def test_a_malformed_row_of_a_log_is_named_by_file_and_line(
    name: str, file: str, line: str, message: str, tmp_path: Path
) -> None:
    folder = written(tmp_path, LAYOUTS[name])
    with (folder / file).open("a") as log:
        log.write(line + "\n")
    with pytest.raises(DatasetError, match=f"{file}:{message}"):
        list(open_dataset(name, folder).events())


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [
        ("ml-1m", "users.dat", "1::F::1::10::48067\n2::M::2::0::1\n", "2: .*README"),
        ("ml-1m", "movies.dat", "1::Toy Story\n", "1: .*MovieID::Title::Genres, got 2"),
        ("ml-latest-small", "movies.csv", "movieId,title\n1,x\n", "1: .*lacks genres"),
        ("ml-latest-small", "movies.csv", "movieId,title,genres\n1,x\n", "2: .*3 fields, got 2"),
        ("kuairand-pure", "user_features_pure.csv", "id\n1\n", "1: .*lacks user_id"),
        ("kuairand-pure", "log_random_4_22_to_5_08_pure.csv", "user_id,time_ms\n", "1: .*lacks video_id"),
        (
            "kuairand-pure",
            "video_features_basic_pure.csv",
            KUAIRAND["video_features_basic_pure.csv"].replace("10000.0", "long"),
            "2: .*a number in video_duration, got 'long'",
        ),
    ],
)
def test_a_malformed_catalogue_is_named_by_file_and_line(
    name: str, file: str, text: str, message: str, tmp_path: Path
) -> None:
    data = open_dataset(name, written(tmp_path, {**LAYOUTS[name], file: text}))
    with pytest.raises(DatasetError, match=f"{file}:{message}"):
        [*data.items(), *data.users(), *data.events()]


def test_unknown_names_and_folders_are_answered_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"'netflix'; there are kuairand-pure, .*jsonl"):
        open_dataset("netflix", tmp_path)
    for name in READERS:
        with pytest.raises(DatasetError, match="is no folder"):
            open_dataset(name, tmp_path / "absent")


@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=12), max_size=3))
def test_any_logs_are_sorted_stably_by_time(
    tmp_path_factory: pytest.TempPathFactory, logs: list[list[tuple[int, bool]]]
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    expected = []
    for index, log in enumerate(logs):
        lines = ["header"]
        for time, blank_before in log:
            lines += [""] * blank_before
            lines.append(f"{time} {index}.{len(lines) + 1}")
            expected.append(lines[-1])
        (folder / str(index)).write_text("\n".join(lines))

    def ts_of(line: Line) -> int:
        return int(line.content.split()[0])

    paths = [folder / str(index) for index in range(len(logs))]
    found = list(in_order_of_time(paths, ts_of, headers=1))
    assert [line.content.decode() for _, line in found] == sorted(expected, key=lambda line: int(line.split()[0]))
    assert all(line.content.endswith(f"{line.path.name}.{line.number}".encode()) for _, line in found)
    assert all(ts == ts_of(line) for ts, line in found)
