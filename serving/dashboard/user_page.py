"""User: what one person did, is like and is shown; and acting as that person to see the list change."""

from functools import partial
from typing import Final

from nicegui import ui

from models.labels import NEGATIVE, POSITIVE, Action
from serving.api.live import AWAY, Asked, Served
from serving.api.problems import Problem
from serving.dashboard import charts
from serving.dashboard.acting import PATIENCE_S, Act, Answer, Move, act, moves, told
from serving.dashboard.board import Board
from serving.dashboard.parts import card, chip, heading, nothing, row, source_chips, to
from serving.dashboard.session import may
from serving.dashboard.why import why_card
from streams.catalogue import decode_profile
from streams.user_states import UserState

_HISTORY: Final = 200
_HISTOGRAM: Final = 128
_FEATURES: Final = 4
_VALUES: Final = 6
_ACTS: Final[tuple[tuple[Act, str, str], ...]] = (
    ("watch", "play_arrow", "Watch"),
    ("like", "favorite", "Like"),
    ("hide", "visibility_off", "Hide"),
    ("skip", "skip_next", "Skip"),
)
_LABELS: Final = (("liked", POSITIVE, charts.TEAL), ("between", 0, charts.GREY), ("disliked", NEGATIVE, charts.ROSE))

#: A tooltip that sets a title as text, so that nothing in it is taken for HTML.
_TOLD: Final = "p => Object.assign(document.createElement('div'), {textContent: p.value[1] + ': ' + p.name})"


async def build(board: Board, user: str = "") -> None:
    """Lay the page out for a user, or ask for one."""
    heading("User", "What somebody did, what is known of them, and the list they are shown.")
    _search(board, user)
    if user:
        await _View(board, user).build()


def _search(board: Board, user: str) -> None:
    with card():
        with row("ms-search"):
            asked = (
                ui.input("User id", value=user).props("outlined dense autocomplete=off clearable").classes("ms-grow")
            )

            def look() -> None:
                if asked.value:
                    ui.navigate.to(to("/user", user=asked.value.strip()))

            asked.on("keydown.enter", look)
            ui.button("Show", icon="search", on_click=look).props("unelevated no-caps")
            ui.button("New user", icon="person_add", on_click=lambda: ui.navigate.to("/onboarding")).props(
                "outline no-caps"
            )
        recent = list(board.watch.users)[-12:]
        if recent:
            with row():
                ui.label("active now").classes("ms-soft")
                for name in reversed(recent):
                    ui.link(name, to("/user", user=name)).classes("ms-pick")
        elif not user:
            nothing("hourglass_empty", "Nobody has done anything since the dashboard started. Any id can be looked up.")


class _View:
    """One user's cards, drawn anew when the user has acted."""

    def __init__(self, board: Board, user: str) -> None:
        self._board = board
        self._user = user
        self._shown: Served | None = None

    async def build(self) -> None:
        with ui.element("div").classes("ms-sides"):
            with card("The list"):
                self._status = ui.label().classes("ms-status").props("role=status aria-live=polite")
                self._places = ui.element("ol").classes("ms-places")
            with ui.element("div").classes("ms-stack"):
                why_card(self._board, self._user)
                self._known = ui.element("div").classes("ms-stack")
        await self._read()

    async def _read(self) -> None:
        live = self._board.live
        try:
            served = await live.recommendations(self._user, Asked(live.settings.lists.size))
        except AWAY as error:
            self._status.text = f"Redis is away: {error}"
            return
        self._show_list(served, moves(served.recommendations.items, served.recommendations.items))
        self._status.text = self._origin(served)
        await self._show_known()

    # -- the list

    def _origin(self, served: Served) -> str:
        made = served.recommendations
        says = {
            "published": f"list {made.seq} as published",
            "computed": "made now, as the user did something since the last list was published",
            "remembered": "as last seen",
            "trending": "what is trending",
        }[served.origin]
        return f"{says}, by model {made.model}" + (f"; {served.degraded}" if served.degraded else "")

    def _show_list(self, served: Served, changes: list[Move]) -> None:
        self._shown = served
        self._places.clear()
        with self._places:
            if not changes:
                nothing("playlist_remove", "The list is empty: lists fill as events come and items are described.")
            scores = [change.place.score for change in changes]
            for number, change in enumerate(changes):
                self._place(number, change, _share(change.place.score, scores))

    def _place(self, number: int, change: Move, share: float) -> None:
        place = change.place
        title = self._board.watch.title(place.item_id)
        new = change.up is None
        with ui.element("li").classes("ms-place" + (" ms-new" if new else "")):
            ui.label(str(number + 1)).classes("ms-rank")
            with ui.element("div").classes("ms-place-text"):
                ui.link(title, to("/items", item=place.item_id)).classes("ms-place-title")
                with row("ms-place-why"):
                    source_chips(place.sources)
                    ui.label(place.reason).classes("ms-soft")
            moved = "new" if new else f"▲ {change.up}" if change.up and change.up > 0 else ""
            moved = f"▼ {-change.up}" if change.up and change.up < 0 else moved
            ui.label(moved).classes("ms-moved" + (" down" if moved.startswith("▼") else ""))
            with ui.element("div").classes("ms-score").props(f'aria-label="score {place.score:.3f}"'):
                ui.element("div").style(f"width: {100 * share:.0f}%")
                ui.label(f"{place.score:.3f}")
            with ui.element("div").classes("ms-acts"):
                for what, icon, word in _ACTS:
                    ui.button(icon=icon, color=None, on_click=partial(self._act, what, place.item_id, number)).props(
                        f'flat round dense aria-label="{word}" title="{word}"'
                    ).classes(f"ms-act-{what}").mark(f"{what}-{number}")

    async def _act(self, what: Act, item: str, position: int) -> None:
        if not may(self._board, "write") or self._shown is None:
            return
        before = self._shown.recommendations
        title = self._board.watch.title(item)
        self._status.text = f"{what}: {title} …"
        try:
            answer = await act(self._board, self._user, what, item, rec_id=before.rec_id, position=position)
        except Problem as problem:
            self._status.text = told(problem)
            return
        self._status.text = self._verdict(what, title, answer)
        if answer.made is not None:
            changes = moves(before.items, answer.made.items)
            self._status.text += f" {sum(change.up is None for change in changes)} items are new on it."
            self._show_list(Served(answer.made, "published"), changes)
        await self._show_known()

    def _verdict(self, what: Act, title: str, answer: Answer) -> str:
        if answer.made is None:
            return f"No list came within {PATIENCE_S:.0f} s. Is a worker running? Health tells."
        return f"{what.capitalize()} “{title}”: the new list was here after {answer.took_ms:.0f} ms."

    # -- what is known

    async def _show_known(self) -> None:
        try:
            [state] = await self._board.live.store.read_users(
                [self._user], histogram=_HISTOGRAM, length=_HISTORY, publish=False
            )
        except AWAY:
            return
        self._known.clear()
        with self._known:
            self._profile(state)
            with card("History", f"the last {_HISTORY} actions, in event time"):
                if len(state.sequence):
                    ui.echart(self._timeline(state)).classes("ms-chart")
                else:
                    nothing("history", "This user has not done anything yet.")
            self._histograms(state)

    def _profile(self, state: UserState) -> None:
        profile = decode_profile(state.profile)
        if profile is None:
            return
        with card("Profile"), row():
            for feature, values in profile.categorical.items():
                for value in values:
                    text = self._board.watch.title(value) if feature == "onboarding_items" else value
                    chip(f"{feature.replace('_', ' ')}: {text}")
            for feature, number in profile.numeric.items():
                chip(f"{feature.replace('_', ' ')}: {number:g}")

    def _timeline(self, state: UserState) -> charts.Options:
        catalogue = self._board.live.engine.catalogue
        options = charts.base("What the user did, over event time")
        options["tooltip"] |= {
            "trigger": "item",
            ":formatter": _TOLD,
        }
        points: dict[int, list[charts.Options]] = {POSITIVE: [], 0: [], NEGATIVE: []}
        names = []
        for record in state.sequence:
            action = Action(int(record["action"])).name.lower()
            names.append(action)
            number = int(record["item"])
            title = self._board.watch.title(catalogue.ids[number]) if number < len(catalogue) else "an item"
            points[int(record["label"])].append(
                {
                    "name": title,
                    "value": [int(record["ts"]), action],
                    "symbolSize": round(7 + 8 * float(record["strength"])),
                }
            )
        return options | {
            "xAxis": charts.axis("time", splitNumber=4),
            "yAxis": charts.axis(
                "category", data=sorted(set(names)), splitLine={"show": True, "lineStyle": {"opacity": 0.15}}
            ),
            "series": [
                {
                    "name": name,
                    "type": "scatter",
                    "data": points[label],
                    "color": colour,
                    "itemStyle": {"opacity": 0.75},
                }
                for name, label, colour in _LABELS
            ],
        }

    def _histograms(self, state: UserState) -> None:
        features: dict[str, dict[str, float]] = {}
        for key, weight in state.histogram:
            feature, _, value = key.partition("=")
            features.setdefault(feature, {})[value] = weight
        heaviest = sorted(features, key=lambda feature: -sum(features[feature].values()))[:_FEATURES]
        for feature in heaviest:
            total = sum(features[feature].values())
            top = {value: 100 * weight / total for value, weight in list(features[feature].items())[:_VALUES]}
            with card(feature.replace("_", " ").capitalize(), "share of what was taken in, newer counts more"):
                options = charts.bars(f"Shares by {feature}", top, digits=1)
                options["xAxis"]["axisLabel"]["formatter"] = "{value} %"
                ui.echart(options).style(charts.height_of_bars(len(top))).classes("ms-bars")


def _share(score: float, scores: list[float]) -> float:
    """How long a score's bar is: the list's best fills it, the worst leaves a tenth."""
    low, high = min(scores), max(scores)
    return 1.0 if high == low else 0.1 + 0.9 * (score - low) / (high - low)
