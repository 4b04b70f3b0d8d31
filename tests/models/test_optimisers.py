"""The optimisers do what theirs are known to do, and without torch's compiler."""

import sys

import numpy as np
import pytest
import torch

from models.networks.optimisers import LBFGS, AdamW

START = torch.linspace(-1.0, 1.0, 6)
LEAST = 3.0


def steps(optimiser: torch.optim.Optimizer, weights: torch.Tensor, count: int) -> torch.Tensor:
    """The weights after so many steps down a bowl that is steeper from weight to weight."""

    def loss() -> float:
        optimiser.zero_grad()
        total = (torch.arange(1.0, 7.0) * (weights - LEAST) ** 2).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return float(total.detach())

    for _ in range(count):
        optimiser.step(loss)
    return weights.detach()


@pytest.mark.parametrize("kind", [AdamW, LBFGS])
def test_neither_brings_in_torchs_compiler(kind: type[AdamW | LBFGS], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # an import of it fails now
    weights = START.clone().requires_grad_()
    assert not torch.allclose(steps(kind([weights]), weights, 1), START)


@pytest.mark.parametrize("fused", [False, True])
def test_adamw_steps_by_its_formula(fused: bool) -> None:
    rate, decay, betas, epsilon = 0.1, 0.2, (0.8, 0.9), 1e-8
    weights = START.clone().requires_grad_()
    found = steps(AdamW([weights], lr=rate, betas=betas, eps=epsilon, weight_decay=decay, fused=fused), weights, 10)
    expected = START.numpy().astype(np.float64)
    mean, square = np.zeros(6), np.zeros(6)
    for at in range(1, 11):
        slope = 2 * np.arange(1, 7) * (expected - LEAST)
        mean = betas[0] * mean + (1 - betas[0]) * slope
        square = betas[1] * square + (1 - betas[1]) * slope**2
        expected *= 1 - rate * decay
        expected -= rate * mean / (1 - betas[0] ** at) / (np.sqrt(square / (1 - betas[1] ** at)) + epsilon)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


def test_lbfgs_finds_the_bottom() -> None:
    weights = START.clone().requires_grad_()
    found = steps(LBFGS([weights], max_iter=50, line_search_fn="strong_wolfe"), weights, 1)
    np.testing.assert_allclose(found.numpy(), LEAST, rtol=1e-4)
