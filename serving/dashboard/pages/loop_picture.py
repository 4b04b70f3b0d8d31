"""The loop as a picture: what flows from where to where, drawn once; the page fills in the numbers and the motion.

Texts with `data-live` are filled with the value of that name, paths with `data-flow` move as fast as that rate says.
Two drawings, one lying for a screen and one standing for a phone; the style sheet shows the one that fits.
"""

from typing import Final, NamedTuple


class Node(NamedTuple):
    """A part of the system: its middle, its name, and which live value stands under the name."""

    x: int
    y: int
    name: str
    live: str
    kind: str = ""


class Arrow(NamedTuple):
    """A way that something goes: an SVG path, the rate that moves it, and where its label stands, if it has one."""

    path: str
    flow: str
    x: int = 0
    y: int = 0
    live: str = ""
    anchor: str = "middle"


class Drawing(NamedTuple):
    """One layout of the loop; sizes are those of its view box."""

    classes: str
    width: int
    height: int
    node_width: int
    nodes: tuple[Node, ...]
    arrows: tuple[Arrow, ...]


_NODE_HEIGHT: Final = 62

_LYING: Final = Drawing(
    "ms-lying",
    1078,
    346,
    172,
    (
        Node(104, 150, "People", "people", "start"),
        Node(394, 150, "Ingest", "ingest"),
        Node(684, 150, "State in Redis", "state"),
        Node(974, 150, "Refresh", "refresh"),
        Node(394, 300, "Dead letters", "letters", "quiet"),
        Node(684, 300, "Trainer", "trainer"),
        Node(974, 300, "Model and index", "model"),
    ),
    (
        Arrow("M190 150 H304", "events", 248, 138, "events"),
        Arrow("M480 150 H594", "events", 538, 138, "lag"),
        Arrow("M770 150 H884", "lists", 828, 138, "items"),
        Arrow("M974 119 V72 Q974 46 948 46 H130 Q104 46 104 72 V115", "lists", 539, 34, "back"),
        Arrow("M394 181 V265", "dead", 406, 228, "dead", "start"),
        Arrow("M450 181 Q470 300 594 300", "events", 512, 262, "logged", "start"),
        Arrow("M770 300 H884", "training", 828, 288, "training"),
        Arrow("M974 269 V185", "lists", 986, 231, "age", "start"),
    ),
)

_STANDING: Final = Drawing(
    "ms-standing",
    384,
    462,
    134,
    (
        Node(80, 44, "People", "people", "start"),
        Node(290, 44, "Ingest", "ingest"),
        Node(80, 174, "Refresh", "refresh"),
        Node(290, 174, "State in Redis", "state"),
        Node(80, 304, "Model", "model"),
        Node(290, 304, "Trainer", "trainer"),
        Node(290, 424, "Dead letters", "letters", "quiet"),
    ),
    (
        Arrow("M147 44 H219", "events", 184, 34, "events"),
        Arrow("M290 75 V139", "events", 280, 112, "lag", "end"),
        Arrow("M223 174 H151", "lists", 185, 164, "items"),
        Arrow("M80 143 V79", "lists", 90, 114, "lists", "start"),
        Arrow("M223 304 H151", "training", 185, 294, "training"),
        Arrow("M80 273 V209", "lists", 90, 244, "age", "start"),
        Arrow("M357 44 H374 V304 H361", "events"),
        Arrow("M374 304 V424 H361", "dead"),
    ),
)


def loop() -> str:
    """Both drawings, as SVG."""
    return _svg(_LYING) + _svg(_STANDING)


def _svg(drawing: Drawing) -> str:
    parts = [_arrow(arrow) for arrow in drawing.arrows] + [_node(node, drawing.node_width) for node in drawing.nodes]
    return (
        f'<svg class="ms-loop {drawing.classes}" viewBox="0 0 {drawing.width} {drawing.height}" role="img" '
        'aria-label="The loop: events go from people to ingest and into state, lists are refreshed from it and go '
        f'back to people; the trainer keeps the model new.">{"".join(parts)}</svg>'
    )


def _node(node: Node, width: int) -> str:
    return (
        f'<g class="ms-node {node.kind}" transform="translate({node.x - width // 2} {node.y - _NODE_HEIGHT // 2})">'
        f'<rect width="{width}" height="{_NODE_HEIGHT}" rx="14"/>'
        f'<text x="{width // 2}" y="27" class="ms-node-name">{node.name}</text>'
        f'<text x="{width // 2}" y="46" class="ms-node-live" data-live="{node.live}">\u2013</text></g>'
    )


def _arrow(arrow: Arrow) -> str:
    place = f'x="{arrow.x}" y="{arrow.y}" text-anchor="{arrow.anchor}"'
    label = f'<text {place} class="ms-rate" data-live="{arrow.live}">\u2013</text>'
    return (
        f'<path class="ms-way" d="{arrow.path}" marker-end="url(#ms-tip)"/>'
        f'<path class="ms-flow" d="{arrow.path}" data-flow="{arrow.flow}"/>{label if arrow.live else ""}'
    )
