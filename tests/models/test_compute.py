"""Where networks are taught and how precisely: that neither shows in what comes out."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import save_model
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from models.config import TowerReading, TrainingConfig
from models.data.popularity import PopularityConfig
from models.networks import training_loop as fitting
from models.networks.compute import CPU, Compute
from models.networks.layers import SASRec, layer
from models.networks.network import Network
from models.networks.sequence import SequenceModel
from models.networks.towers import TwoTowers
from models.networks.training_loop import Lesson
from models.training.context import Course
from tests.models import world

Make = Callable[[TrainingConfig], Network]
GPU: Final = torch.device("cuda")


def with_parts(**parts: Any) -> TrainingConfig:
    return replace(world.SMALL, sequence=replace(world.SMALL.sequence, **parts))


def sequence_of(config: TrainingConfig) -> SequenceModel:
    torch.manual_seed(0)
    return SequenceModel(90, config.token_buckets, 4, config.sequence)


def towers_of(config: TrainingConfig) -> TwoTowers:
    torch.manual_seed(0)
    return TwoTowers(90, config.token_buckets, 4, config.towers)


def lesson_of(config: TrainingConfig, compute: Compute, *, events: int) -> Lesson:
    course = Course.over(world.data(world.interactions(events)), config, PopularityConfig(), [])
    return Lesson(
        course.histories,
        course.content,
        course.trends,
        np.ones(len(course.targets), np.float32),
        course.targets,
        time.monotonic() + 60,
        np.random.default_rng(0),
        lambda _done: None,
        compute=compute,
    )


# -- the device


class Elsewhere(Compute):
    """A device of which torch knows everything but the numbers on it."""

    def __init__(self) -> None:
        super().__init__(torch.device("meta"))

    @contextmanager
    def lent(self, network: nn.Module) -> Iterator[None]:
        yield  # it was made there, as there is no way back from it


PARTS: list[dict[str, Any]] = [
    {"reads": ("content", "actions", "gaps", "moment", "trends", "user")},
    {"loss": "sampled", "full_softmax_items": 0, "negatives": 16, "next_action": True},
    {"layers": "hstu", "loss": "softmax", "reads": ("times", "moment")},
    {"layers": "ligr", "reads": ("times",), "similarity": "cosine"},
    {"layers": "gru", "loss": "gbce", "negatives": 64},
]


@pytest.mark.parametrize(
    ("make", "config"),
    [
        *((sequence_of, with_parts(batch_tokens=256, **parts)) for parts in PARTS),
        (towers_of, replace(world.SMALL, towers=replace(world.SMALL.towers, reads=get_args(TowerReading)))),
    ],
    ids=[*map(str, PARTS), "towers"],
)
def test_a_step_mixes_no_devices_and_waits_for_none(
    make: Make,
    config: TrainingConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every operation of the whole fit is looked at; only when the epoch ends is a number asked for."""
    steps = []

    class Counted(torch.optim.AdamW):
        def __init__(self, groups: Any, *, fused: bool) -> None:
            super().__init__(groups, foreach=False)  # none is fused for this device

        def step(self, closure: Any = None) -> Any:
            steps.append({each.grad.device for each in self.param_groups[0]["params"] if each.grad is not None})
            return super().step()

    monkeypatch.setattr(fitting, "AdamW", Counted)
    elsewhere = Elsewhere()
    lesson = lesson_of(config, elsewhere, events=600)
    with FakeTensorMode(allow_non_fake_inputs=True):
        with elsewhere.device:
            network = make(config)
        with pytest.raises(DataDependentOutputException, match="_local_scalar_dense"):
            network.fit(lesson)
    assert len(steps) > 1
    assert all(devices == {elsewhere.device} for devices in steps)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_a_gpu_teaches_as_well_as_the_cpu(parts: dict[str, Any], precision: Literal["float32", "bfloat16"]) -> None:
    config = with_parts(batch_tokens=256, **parts)
    compute = Compute.of(replace(config, device="cuda", precision=precision))
    on_gpu, on_cpu = (lesson_of(config, each, events=1500) for each in (compute, Compute()))
    for lesson in (on_gpu, on_cpu):
        network = sequence_of(config)
        network.fit(lesson)
        assert {weights.device for weights in network.parameters()} == {CPU}
    np.testing.assert_allclose(on_gpu.losses, on_cpu.losses, rtol=0.05)


class Traveller(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.device] = []

    def to(self, device: torch.device) -> None:  # type: ignore[override]
        self.seen.append(device)


def test_a_network_comes_back_whatever_happens() -> None:
    network = Traveller()

    def fail() -> None:
        with Compute(GPU).lent(network):
            assert network.seen == [GPU]
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert network.seen == [GPU, CPU]


def test_a_gpu_that_is_not_there_is_missed_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = replace(world.SMALL, device="cuda")
    with pytest.raises(ValueError, match=r"model\.device is cuda, but torch finds no GPU"):
        Course.over(world.data(world.interactions(10)), config, PopularityConfig(), [])
    assert Compute.of(replace(world.SMALL, device="auto")).device == CPU


@pytest.mark.parametrize("able", [True, False])
@pytest.mark.parametrize("asked", ["auto", "cpu", "cuda"])
def test_auto_is_the_best_of_what_is_there(
    able: bool, asked: Literal["auto", "cpu", "cuda"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able and not including_emulation)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": able})
    found = Compute.of(replace(world.SMALL, device=asked, precision="auto"))
    assert found == Compute(CPU if asked == "cpu" else GPU, able)
    assert not Compute.of(replace(world.SMALL, device=asked, precision="float32")).bfloat16
    assert Compute.of(replace(world.SMALL, device=asked, precision="bfloat16")).bfloat16


# -- the precision


def header(network: nn.Module, path: Path) -> bytes:
    """What the file says of the names, types and shapes of its weights."""
    save_model(network, str(path))
    content = path.read_bytes()
    [length] = struct.unpack("<Q", content[:8])
    return content[8 : 8 + length]


@pytest.mark.parametrize(
    ("make", "config"),
    [*((sequence_of, with_parts(batch_tokens=512, **parts)) for parts in PARTS), (towers_of, world.SMALL)],
    ids=[*map(str, PARTS), "towers"],
)
def test_bfloat16_learns_as_well_and_leaves_the_same_kind_of_file(
    make: Make, config: TrainingConfig, tmp_path: Path
) -> None:
    losses, files = [], []
    for bfloat16 in (False, True):
        lesson = lesson_of(config, Compute(bfloat16=bfloat16), events=1500)
        network = make(config)
        network.fit(lesson)
        losses.append(lesson.losses)
        files.append(header(network, tmp_path / str(bfloat16)))
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.01)
    assert files[0] == files[1]
    assert b"BF16" not in files[1]


# -- attention by one kernel


@pytest.mark.parametrize("layers", ["sasrec", "ligr"])
@pytest.mark.parametrize("times", [True, False])
def test_fused_attention_is_attention_and_teaches_the_biases_the_same(
    layers: str, times: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    block = layer(with_parts(layers=layers, reads=("times",) if times else ()).sequence).eval()
    for weights in block.parameters():
        nn.init.normal_(weights, std=0.5)
    states, spans = torch.randn(3, 20, 16), torch.randint(68, (3, 20, 20)) if times else None
    made = []
    for _ in range(2):
        block.zero_grad()
        out = block(states, spans)
        (out * torch.linspace(-1, 1, 16)).sum().backward()
        made.append([out.detach(), *(each.grad.clone() for each in block.parameters() if each.grad is not None)])
        monkeypatch.setattr(SASRec, "attend", SASRec.fused)
    for one, other in zip(*made, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
