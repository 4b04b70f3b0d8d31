"""The ranking networks: what is to be added to the blend's score, from a line to DeepFM, learnt from choices.

Each ends in 0 before it has learnt, so the order starts as the blend's. The loss is that of the multinomial logit over
each user's candidates, of which the negatives are a sample, weighted for that (Bengio and Senécal, 2008).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.config import RankerConfig
from models.networks.optimisers import AdamW
from models.ranking.examples import Examples
from models.ranking.inputs import Scaling, Tokens

#: What each kind is made of, of: a line over the features, pairs of tokens (a factorization machine), hidden layers.
PARTS: Final = {
    "linear": ("line",),
    "fm": ("line", "pairs"),
    "deep": ("layers",),
    "wide_deep": ("line", "layers", "embeddings"),
    "deepfm": ("line", "pairs", "layers", "embeddings"),
}

#: What has learnt much is changed by little: its rate is so much of a new one's.
_SLOWER: Final = 0.3


class RankingNetwork(nn.Module):
    """A network of one of the kinds in `PARTS`.

    `linear` is logistic regression; `fm` Rendle (2010), its pairs those of a user's tokens with an item's; `deep` a
    multi-layer perceptron over the features; `wide_deep` Cheng et al. (2016); `deepfm` Guo et al. (2017).
    """

    def __init__(self, width: int, buckets: int, config: RankerConfig) -> None:
        super().__init__()
        self.parts = PARTS[config.kind]
        self.line = nn.Linear(width, 1)
        nn.init.zeros_(self.line.weight)
        nn.init.zeros_(self.line.bias)
        if self.reads_tokens:
            self.of_item = nn.EmbeddingBag(buckets, config.dim, mode="mean", padding_idx=0)
            self.of_user = nn.EmbeddingBag(buckets, config.dim, mode="sum", padding_idx=0)
            self.alone = nn.EmbeddingBag(buckets, 1, mode="mean", padding_idx=0)
            nn.init.normal_(self.of_item.weight, std=0.05)
            nn.init.normal_(self.of_user.weight, std=0.05)
            nn.init.zeros_(self.alone.weight)
        if "layers" in self.parts:
            wide = width + (2 * config.dim if "embeddings" in self.parts else 0)
            layers: list[nn.Module] = []
            for hidden in config.hidden:
                layers += [nn.Linear(wide, hidden), nn.GELU(), nn.Dropout(config.dropout)]
                wide = hidden
            last = nn.Linear(wide, 1)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.layers = nn.Sequential(*layers, last)

    @property
    def reads_tokens(self) -> bool:
        """Whether it looks at more than the features."""
        return "pairs" in self.parts or "embeddings" in self.parts

    def forward(self, features: Tensor, tokens: Tokens, of: npt.NDArray[np.int64]) -> Tensor:
        """What to add to the scores (k,) of candidates of users `of`, with features (k, width), scaled."""
        out = self.line(features)[:, 0] if "line" in self.parts else torch.zeros(len(features))
        deep = features
        if self.reads_tokens:
            item, user = (torch.from_numpy(each.astype(np.int64)) for each in (tokens.item, tokens.user))
            items = self.of_item(item)
            users = self.of_user(user, per_sample_weights=torch.from_numpy(tokens.weights))[torch.from_numpy(of)]
            if "pairs" in self.parts:
                out = out + (items * users).sum(dim=1) + self.alone(item)[:, 0]
            if "embeddings" in self.parts:
                deep = torch.cat([features, items, users], dim=1)
        if "layers" in self.parts:
            out = out + self.layers(deep)[:, 0]
        return out


def fit_network(
    examples: Examples,
    base: npt.NDArray[np.floating],
    scaling: Scaling,
    buckets: int,
    config: RankerConfig,
    start: RankingNetwork | None = None,
) -> RankingNetwork:
    """The network that best explains the choices together with the base scores (k,) of the described candidates.

    Args:
        start: one to go on from, for a few epochs at a slower rate.
    """
    rng = np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    network = RankingNetwork(scaling.width, buckets, config)
    epochs, rate = config.epochs, config.learning_rate
    if start is not None:
        network.load_state_dict(start.state_dict())
        epochs, rate = config.fine_tune_epochs, rate * _SLOWER
    of, chosen, users, tokens = examples.of, examples.chosen, len(examples), examples.tokens
    starts = np.searchsorted(of, np.arange(users + 1))
    scaled = torch.from_numpy(scaling(examples.features)).contiguous()
    offsets = torch.from_numpy((base - examples.log_odds_of_drawing).astype(np.float32))
    weights = torch.from_numpy(examples.weights / max(float(examples.weights.mean()), 1e-9))
    optimiser = AdamW(network.parameters(), lr=rate, weight_decay=config.weight_decay)
    steps = epochs * -(-users // config.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=max(steps, 1))
    network.train()
    for _ in range(epochs):
        order = rng.permutation(users)
        for first in range(0, users, config.batch):
            some = order[first : first + config.batch]
            sizes = starts[some + 1] - starts[some]
            places = np.repeat(starts[some] - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
            whose = np.repeat(np.arange(len(some)), sizes)
            rows = torch.from_numpy(whose)
            own = Tokens(tokens.item[places], tokens.user[some], tokens.weights[some])
            scores = network(scaled[places], own, whose) + offsets[places]
            peaks = torch.full((len(some),), -torch.inf).scatter_reduce_(0, rows, scores.detach(), "amax")
            total = torch.log(torch.zeros(len(some)).index_add_(0, rows, torch.exp(scores - peaks[rows]))) + peaks
            mine = torch.from_numpy(np.cumsum(sizes) - sizes + chosen[some] - starts[some])
            loss = ((total - scores[mine]) * weights[some]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()
