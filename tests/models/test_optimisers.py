"""The optimisers do as torch's own, and without its compiler."""

import sys

import pytest
import torch

from models.optimisers import LBFGS, AdamW

START = torch.linspace(-1.0, 1.0, 6)


def steps(optimiser: torch.optim.Optimizer, weights: torch.Tensor) -> torch.Tensor:
    """The weights after ten steps towards the least of a function."""

    def loss() -> float:
        optimiser.zero_grad()
        total = ((weights - 3.0) ** 4).sum() + weights[0] * weights[1]
        total.backward()  # type: ignore[no-untyped-call]
        return float(total.detach())

    for _ in range(10):
        optimiser.step(loss)
    return weights.detach()


@pytest.mark.parametrize("kind", [AdamW, LBFGS])
def test_neither_brings_in_torchs_compiler(kind: type[AdamW | LBFGS], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # an import of it fails now
    weights = START.clone().requires_grad_()
    assert not torch.allclose(steps(kind([weights]), weights), START)


@pytest.mark.parametrize("fused", [False, True])
def test_adamw_steps_as_torchs_own(fused: bool) -> None:
    ours, theirs = START.clone().requires_grad_(), START.clone().requires_grad_()
    expected = steps(torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.1, fused=fused), theirs)
    found = steps(AdamW([ours], lr=0.1, weight_decay=0.1, fused=fused), ours)
    assert torch.equal(found, expected)
    assert not torch.allclose(found, START)


def test_lbfgs_steps_as_torchs_own() -> None:
    ours, theirs = START.clone().requires_grad_(), START.clone().requires_grad_()
    expected = steps(torch.optim.LBFGS([theirs], max_iter=3), theirs)
    found = steps(LBFGS([ours], max_iter=3), ours)
    assert torch.equal(found, expected)
    assert not torch.allclose(found, START)
