"""Tables in Markdown, as the docs have them."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells under their heads; without a line break at its end."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    lines.insert(1, f"|{' --- |' * len(head)}")
    return "\n".join(lines)
