"""A data set read straight into the models' own form, without Kafka and Redis: for evaluation."""

from collections.abc import Callable

import numpy as np

from models.data.interactions import NO_ITEM, Impressions, Interactions
from models.data.labels import LabelRules
from models.data.searches import Searches
from models.data.tokens import profile_tokens
from models.training.context import TrainingData
from streams.contract.events import BadRecord, decode_event
from streams.datasets import Dataset, DatasetError
from streams.datasets.refusals import Refusals


def training_data(
    dataset: Dataset,
    rules: LabelRules,
    *,
    on_event: Callable[[int], None] = lambda _: None,
    on_refusals: Callable[[str], None] = lambda _: None,
) -> TrainingData:
    """The whole data set; exact copies count once, and rows that ingest would refuse are skipped.

    Args:
        on_event: gets the number of events read, now and then.
        on_refusals: gets how many rows were refused and why, if any were.

    Raises:
        DatasetError: the log has no rows, or every row was refused.
    """
    refusals, count = Refusals(), 0
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    copies: set[tuple[int, str]] = set()
    rows: list[tuple[int, int, int, int, float, int, float, int]] = []
    shown: list[tuple[int, int, int]] = []
    searches: list[tuple[int, int, str]] = []
    for count, logged in enumerate(dataset.events(), 1):
        if count % 5_000 == 0:
            on_event(count)
        try:
            event = decode_event(logged.raw)
        except BadRecord as bad:
            refusals.add(bad)
            continue
        user = users.setdefault(event.user_id, len(users))
        if (user, event.event_id or "") in copies:
            continue
        copies.add((user, event.event_id or ""))
        item = NO_ITEM if event.item_id is None else items.setdefault(event.item_id, len(items))
        if event.type == "impression":
            shown.append((user, item, event.ts))
            continue
        if event.type == "search":
            searches.append((user, event.ts, event.query or ""))
        said = event.grade(rules)
        rows.append((user, item, event.ts, said.action, said.strength, said.label, said.weight, event.device))
    if not count:
        raise DatasetError(f"{dataset.folder}: the log has no rows")
    if refusals.rows == count:
        raise DatasetError(f"{dataset.folder}: no row of the log can be used; {refusals.among(count)}")
    if refusals.rows:
        on_refusals(refusals.among(count))
    columns = list(zip(*rows, strict=True)) or [()] * 8
    whom, what, when = list(zip(*shown, strict=True)) or [()] * 3
    interactions = Interactions(
        user=np.array(columns[0], np.int32),
        item=np.array(columns[1], np.int32),
        ts=np.array(columns[2], np.int64),
        action=np.array(columns[3], np.uint8),
        strength=np.array(columns[4], np.float32),
        label=np.array(columns[5], np.int8),
        weight=np.array(columns[6], np.float32),
        device=np.array(columns[7], np.uint8),
        user_ids=list(users),
        item_ids=list(items),
        shown=Impressions(np.array(whom, np.int32), np.array(what, np.int32), np.array(when, np.int64)),
        searches=Searches.of(searches),
    )
    profiles = {user.user_id: profile_tokens(user.categorical, user.numeric) for user in dataset.users()}
    return TrainingData(interactions, list(dataset.items()), profiles)
