"""User: what one person did, is like and is shown; and acting as that person to see the list change."""

from typing import Final

from nicegui import ui

from models.data.labels import NEGATIVE, POSITIVE, Action
from serving.api.live import AWAY, Asked, Served
from serving.api.problems import Problem
from serving.dashboard.board import Board
from serving.dashboard.feed.acting import PATIENCE_S, Act, Answer, Move, act, moves, told
from serving.dashboard.pages import charts
from serving.dashboard.pages.parts import card, chip, heading, nothing, row, to
from serving.dashboard.pages.places import Places
from serving.dashboard.pages.why import why_card
from serving.dashboard.session import may
from streams.contract.events import Recommendations
from streams.state.item_catalogue import decode_profile
from streams.state.user_states import UserState

_HISTORY: Final = 200
_HISTOGRAM: Final = 128
_FEATURES: Final = 4
_VALUES: Final = 6
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
        self._shown: Recommendations | None = None

    async def build(self) -> None:
        with ui.element("div").classes("ms-sides"):
            with card("The list"):
                self._status = ui.label().classes("ms-status").props("role=status aria-live=polite")
                self._places = Places(self._board.watch.title, self._act)
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
        made = served.recommendations
        self._show_list(made, moves(made.items, made.items))
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

    def _show_list(self, made: Recommendations, changes: list[Move]) -> None:
        self._shown = made
        self._places.show(changes)

    async def _act(self, what: Act, item: str) -> None:
        before = self._shown
        listed = [place.item_id for place in before.items] if before else []
        if not may(self._board, "write") or before is None or item not in listed:
            return
        title, at = self._board.watch.title(item), listed.index(item)
        self._status.text = f"{what}: {title} …"
        try:
            answer = await act(self._board, self._user, what, item, rec_id=before.rec_id, position=at)
        except Problem as problem:
            self._status.text = told(problem)
            return
        self._status.text = self._verdict(what, title, answer)
        if answer.made is not None:
            changes = moves(before.items, answer.made.items)
            self._status.text += f" {sum(change.up is None for change in changes)} items are new on it."
            self._show_list(answer.made, changes)
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
