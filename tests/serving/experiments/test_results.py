"""Results of simulated experiments with a known effect: found where it is, not found where it is not."""

from typing import Any

import numpy as np
import pytest

from serving.experiments import Experiments
from serving.experiments.ledger import Ledger, Ledgers
from serving.experiments.results import ExperimentResult, result_of
from serving.measures import Credit, Measure
from streams.contract.events import Recommendations
from streams.settings.online import ArmSettings, ExperimentSettings, ExperimentsSettings

START = 1_000_000
NAMES = {"control": 0.5, "fresh": 0.5}


def experiment(**given: Any) -> ExperimentSettings:
    arms = tuple(ArmSettings(name=name, share=share) for name, share in NAMES.items())
    return ExperimentSettings(**({"name": "mix", "arms": arms, "starts_at": START} | given))


def played(
    users: int, lift: float, *, seed: int = 1, past: bool = True, most: int = 100_000, effect: float = 0.2
) -> Ledgers:
    """An experiment whose second arm engages so much more of each user's sessions."""
    settings = ExperimentsSettings(running=(experiment(effect=effect),))
    ledgers = Ledgers(Experiments(settings), most=most)
    rng = np.random.default_rng(seed)
    for n in range(users):
        user, liking = f"{seed}-{n}", rng.beta(2.0, 4.0)
        arm = ledgers.experiments.arm_of(user)
        for ts, chance in ((START - 1, liking), (START, liking * (1 + lift * arm.number))):
            sessions = int(1 + rng.poisson(8.0))
            engaged = int(rng.binomial(sessions, min(chance, 1.0)))
            if past or ts == START:
                counted = ((Measure.SESSIONS, sessions), (Measure.ENGAGED_SESSIONS, engaged))
                ledgers.take(Credit(ts, user, (), counted))
    return ledgers


def result(ledgers: Ledgers) -> ExperimentResult:
    ledger, [settings] = ledgers.of["mix"], ledgers.experiments.settings.running
    return result_of(settings, ledger, ledger.sample(), 0.05)


def test_a_true_effect_is_found_and_its_size_told() -> None:
    found = result(played(4_000, 0.2))
    control, fresh = found.arms
    assert control.against_control is None and fresh.against_control is not None
    compared = fresh.against_control["engagement_rate"]
    assert compared.raw.p_always < 0.05 and compared.relative == pytest.approx(0.2, abs=0.05)
    low, high = compared.raw.always.low, compared.raw.always.high
    assert low is not None and high is not None and low < 0.2 / 3 < high
    assert found.verdict.startswith("fresh is better than control: engagement rate +")
    assert found.sample_ratio_p > 0.01 and control.users + fresh.users == 4_000


def test_the_past_makes_the_interval_narrower() -> None:
    adjusted = result(played(1_500, 0.0)).arms[1].against_control
    without = result(played(1_500, 0.0, past=False)).arms[1].against_control
    assert adjusted is not None and without is not None
    assert without["engagement_rate"].adjusted is None
    assert (adjusted["engagement_rate"].variance_left or 1.0) < 0.7


def test_without_an_effect_none_is_found_and_the_users_that_are_missing_are_told() -> None:
    verdicts = [result(played(400, 0.0, seed=seed, effect=0.05)).verdict for seed in range(10)]
    assert sum("not shown to differ" in verdict for verdict in verdicts) >= 9
    assert "would take about" in verdicts[0]


def test_too_few_users_are_not_judged() -> None:
    assert result(played(60, 0.5)).verdict.startswith("Too early")


def test_of_many_users_a_fair_half_is_compared() -> None:
    many = played(4_000, 0.2, most=1_000)
    found = result(many)
    users = sum(arm.users for arm in found.arms)
    assert found.sampled == 0.25 and users == pytest.approx(1_000, abs=120)
    assert found.sample_ratio_p > 0.001 and "fresh is better" in found.verdict


def test_effects_are_not_read_where_the_sample_ratio_is_wrong() -> None:
    ledgers = Ledgers(Experiments(ExperimentsSettings(running=(experiment(),))), most=10_000)
    for n in range(1_000):  # one arm loses a third of its users on the way
        user = f"u{n}"
        if ledgers.experiments.arm_of(user).number == 0 or n % 3:
            ledgers.take(Credit(START, user, (), ((Measure.SESSIONS, 1.0),)))
    assert "do not have the users" in result(ledgers).verdict


def test_effects_are_not_read_where_the_lists_are_not_the_arms() -> None:
    ledgers = played(400, 0.5)
    for n in range(100):
        made = Recommendations(
            rec_id=str(n), user_id=f"1-{n}", seq=1, items=[], model="v1", index="flat", generated_at=START
        )
        ledgers.take_list(made)
    assert "lists carry another variant" in result(ledgers).verdict


def test_users_put_in_by_hand_are_not_counted_and_the_holdout_is_held_against_the_rest() -> None:
    settings = ExperimentsSettings(holdout=0.3, running=(experiment(users={"ann": "fresh"}, traffic=0.5),))
    ledgers = Ledgers(Experiments(settings), most=10_000)
    for user in ["ann", *(f"u{n}" for n in range(1_000))]:
        ledgers.take(Credit(START, user, (), ((Measure.SESSIONS, 1.0),)))
    in_mix = [user for user in (f"u{n}" for n in range(1_000)) if "mix" in ledgers.experiments.arm_of(user).label]
    assert len(ledgers.of["mix"].sample().arm) == len(in_mix)
    held = ledgers.of["holdout"].sample().arm
    assert len(held) == 1_000 and (held == 0).mean() == pytest.approx(0.3, abs=0.06)


def test_what_was_before_the_start_is_the_past() -> None:
    ledger = Ledger(starts_at=START, most=10)
    ledger.add("ann", 0, START - 1, ((Measure.CLICKS, 2.0),))
    assert len(ledger.sample().arm) == 0  # not there yet
    ledger.add("ann", 0, START, ((Measure.CLICKS, 3.0),))
    sample = ledger.sample()
    assert (sample.before[0, Measure.CLICKS], sample.now[0, Measure.CLICKS]) == (2.0, 3.0)


@pytest.mark.parametrize(
    ("second", "says"), [(0.6, "fresh is preferred to control"), (0.3, "not shown to be preferred")]
)
def test_an_interleaved_experiment_tells_whose_picks_are_taken(second: float, says: str) -> None:
    settings = ExperimentsSettings(running=(experiment(interleave=True),))
    ledgers = Ledgers(Experiments(settings), most=10_000)
    rng = np.random.default_rng(3)
    for n in range(600):
        taken = (
            (Measure.FIRST_TAKEN, float(rng.binomial(5, 0.3))),
            (Measure.SECOND_TAKEN, float(rng.binomial(5, second))),
        )
        ledgers.take(Credit(START, f"u{n}", (), taken))
    found = result(ledgers)
    assert says in found.verdict and found.preference is not None
    assert (found.preference.always.low or 0.0) <= found.preference.always.value
