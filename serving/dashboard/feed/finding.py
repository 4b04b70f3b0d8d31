"""Finding items by what people type: the id itself, or a part of the title."""

from typing import Final

from streams.contract.events import ItemRecord
from streams.state.item_catalogue import Catalogue

MOST: Final = 24


def find(catalogue: Catalogue, text: str, most: int = MOST) -> list[ItemRecord]:
    """The item of that id first, then those whose title or id has the text in it, titles that begin with it first."""
    wanted = text.strip().casefold()
    if not wanted:
        return []
    exact = catalogue.numbers.get(text.strip())
    found = [] if exact is None else [catalogue.items[exact]]
    begins: list[ItemRecord] = []
    has: list[ItemRecord] = []
    for number, item in enumerate(catalogue.items):
        if number == exact:
            continue
        title = item.title.casefold()
        if title.startswith(wanted):
            begins.append(item)
        elif len(has) < most and (wanted in title or wanted in item.item_id.casefold()):
            has.append(item)
        if len(begins) >= most:
            break
    return [*found, *begins, *has][:most]


def values(catalogue: Catalogue, feature: str, most: int = MOST) -> list[str]:
    """A categorical feature's most frequent values among the items, in the order of the alphabet."""
    counts: dict[str, int] = {}
    for item in catalogue.items:
        for value in item.categorical.get(feature, ()):
            counts[value] = counts.get(value, 0) + 1
    return sorted(sorted(counts, key=lambda value: -counts[value])[:most])
