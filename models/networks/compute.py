"""Where networks are taught and how precisely: on a GPU where there is one, in bfloat16 where the hardware computes it.

Nothing else knows of it: what has been taught is in float32 and on the CPU again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.config import TrainingConfig

CPU: Final = torch.device("cpu")

#: What a CPU that computes bfloat16 calls that, among torch's names of what it can do.
_OF_BFLOAT16: Final = ("avx512_bf16", "amx_bf16")


@dataclass(frozen=True)
class Compute:
    """The device that networks are taught on, and whether their matrix products are of bfloat16."""

    device: torch.device = CPU
    bfloat16: bool = False

    @classmethod
    def of(cls, config: TrainingConfig) -> Compute:
        """What the configuration asks for, `auto` being the best of what is here.

        Raises:
            ValueError: a GPU is asked for, and torch finds none.
        """
        found = torch.cuda.is_available()
        if config.device == "cuda" and not found:
            raise ValueError(
                "model.device is cuda, but torch finds no GPU here: it takes one of NVIDIA with its driver, "
                "and a build of torch for CUDA; auto takes a GPU only where there is one"
            )
        device = torch.device("cuda") if found and config.device != "cpu" else CPU
        if config.precision == "auto":
            return cls(device, _computes_bfloat16(device))
        return cls(device, config.precision == "bfloat16")

    def autocast(self) -> AbstractContextManager[object]:
        """Within it matrix products are of the precision chosen, and what they are made of stays float32."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext()

    @contextmanager
    def lent(self, network: nn.Module) -> Iterator[None]:
        """Within it the network is on the device, and afterwards on the CPU, whatever happens."""
        network.to(self.device)
        try:
            yield
        finally:
            network.to(CPU)


def tensor(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """The array as a tensor on the device; on the CPU the two share their memory."""
    return torch.from_numpy(array).to(device)


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return any(bool(able.get(name)) for name in _OF_BFLOAT16)
