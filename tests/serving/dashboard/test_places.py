"""The places of a list as HTML."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from serving.dashboard.feed.acting import Move
from serving.dashboard.pages.places import drawn
from streams.contract.events import ListItem

TEXT = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20) | st.sampled_from(
    ['"><img src=x onerror=alert(1)>', "</li><script>", "a&lt;b", "' onclick='x"]
)


class Read(HTMLParser):
    """What a browser would make of it: the elements, each place's item, and the texts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.items: list[str | None] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "li":
            self.items.append(dict(attrs)["data-item"])

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT, TEXT), min_size=1, max_size=4), st.floats(-5, 5))
def test_what_comes_from_records_is_text_whatever_it_holds(
    named: list[tuple[str, str, str, str]], score: float
) -> None:
    titles = {item: title for item, title, _, _ in named}
    moves = [
        Move(ListItem(item_id=item, score=score, sources=[source], reason=reason), None)
        for item, _, source, reason in named
    ]
    read = Read()
    read.feed(drawn(moves, titles.__getitem__))
    read.close()
    assert read.tags == {"li", "div", "a", "span", "button", "i"}
    assert not {name for name in read.attributes if name.startswith("on")}
    assert read.items == [item for item, _, _, _ in named]
    assert {reason for _, _, _, reason in named} | set(titles.values()) <= set(read.texts)


def test_a_place_tells_how_it_moved() -> None:
    moves = [
        Move(ListItem(item_id=f"i{n}", score=1.0 - n, sources=[], reason=""), up)
        for n, up in enumerate((2, 0, -1, None))
    ]
    read = Read()
    read.feed(drawn(moves, str))
    assert [text for text in read.texts if text[0] in "▲▼n"] == ["▲ 2", "▼ 1", "new"]
