"""torch's optimisers without torch's compiler, which nothing here uses.

They are decorated for it, and the first that is made or stepped imports it all: two seconds of a processor's time in
each process that trains.
"""

from inspect import unwrap

import torch
from torch.optim import Optimizer


class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`, step by step the same."""

    add_param_group = unwrap(Optimizer.add_param_group)
    zero_grad = unwrap(Optimizer.zero_grad)
    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))


class LBFGS(torch.optim.LBFGS):
    """`torch.optim.LBFGS`, step by step the same."""

    add_param_group = unwrap(Optimizer.add_param_group)
    zero_grad = unwrap(Optimizer.zero_grad)
