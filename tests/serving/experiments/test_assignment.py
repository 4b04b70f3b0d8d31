"""Users are drawn evenly, once and for all, and independently from experiment to experiment."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.statistics.samples import MISMATCH, sample_ratio_p
from serving.experiments import Experiments
from serving.lists.assignment import point
from streams.settings.online import ArmSettings, ExperimentSettings, ExperimentsSettings

USERS = [f"user-{n}" for n in range(8_000)]


def experiment(name: str = "mix", **given: Any) -> ExperimentSettings:
    arms = (ArmSettings(name="a", share=0.7), ArmSettings(name="b", share=0.3, pipeline="fresh"))
    return ExperimentSettings(**({"name": name, "arms": arms} | given))


def labels(*running: ExperimentSettings, **more: Any) -> list[str]:
    return Experiments(ExperimentsSettings(running=running, **more)).assign(USERS)


def test_arms_and_holdout_have_their_shares() -> None:
    counts = Counter(labels(experiment(traffic=0.5), experiment("next"), holdout=0.1))
    wanted = {"holdout": 10, "mix:a": 31.5, "mix:b": 13.5, "next:a": 31.5, "next:b": 13.5}
    assert counts.keys() == wanted.keys()
    assert sample_ratio_p([counts[name] for name in wanted], list(wanted.values())) > MISMATCH


def test_an_arm_brings_its_pipeline_and_without_experiments_all_get_the_default() -> None:
    experiments = Experiments(ExperimentsSettings(running=(experiment(),)))
    arms = {arm.label: arm.pipeline for arm in map(experiments.arm_of, USERS[:100])}
    assert arms == {"mix:a": None, "mix:b": "fresh"}
    assert set(labels()) == {"control"}


def test_all_who_take_part_in_an_interleaved_experiment_get_both_pipelines() -> None:
    arms = (ArmSettings(name="a", share=0.5), ArmSettings(name="b", share=0.5, pipeline="fresh"))
    experiments = Experiments(ExperimentsSettings(running=(experiment(arms=arms, interleave=True, traffic=0.3),)))
    found = {(arm.label, arm.drafted) for arm in map(experiments.arm_of, USERS[:200])}
    assert found == {("control", None), ("mix:interleaved", (None, "fresh"))}


def test_more_traffic_moves_nobody_between_the_arms() -> None:
    fewer, more = labels(experiment(traffic=0.2)), labels(experiment(traffic=0.6))
    assert all(now == before for before, now in zip(fewer, more, strict=True) if before != "control")


def test_a_salt_of_its_own_makes_a_draw_of_its_own() -> None:
    one, other = labels(experiment()), labels(experiment(salt="another"))
    both = Counter(zip(one, other, strict=True))
    assert sample_ratio_p(list(both.values()), [{"a": 7, "b": 3}[x[-1]] * {"a": 7, "b": 3}[y[-1]] for x, y in both]) > (
        MISMATCH
    )


def test_users_put_into_an_arm_by_hand_are_there_and_count_as_such() -> None:
    experiments = Experiments(ExperimentsSettings(holdout=0.99, running=(experiment(users={"user-1": "b"}),)))
    arm = experiments.arm_of("user-1")
    assert (arm.label, arm.drawn) == ("mix:b", False)


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_point_is_a_share_and_always_the_same(salt: str, user: str) -> None:
    assert 0.0 <= point(salt, user) < 1.0
    assert point(salt, user) == point(salt, user)


def test_the_draw_is_the_same_in_every_release() -> None:
    assert point("mix", "ann") == pytest.approx(0.6831979117230731)
    assert labels(experiment())[6:8] == ["mix:a", "mix:b"]


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ({"arms": [{"name": "a", "share": 1.0}]}, "at least 2"),
        ({"arms": [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.6}]}, "add up to 1.1; they must"),
        ({"arms": [{"name": "a", "share": 0.5}, {"name": "a", "share": 0.5}]}, "two arms have one name"),
        ({"users": {"ann": "c"}}, "its arms are a, b"),
        ({"interleave": True}, "two arms with a share of 0.5 each"),
        ({"metric": "mood"}, "engagement_rate"),
    ],
)
def test_an_experiment_that_cannot_be_is_refused(given_: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        experiment(**given_)


def test_two_experiments_need_two_names() -> None:
    with pytest.raises(ValidationError, match="need a name each"):
        ExperimentsSettings(running=(experiment(), experiment()))
