"""GraphZ (Voytetskiy et al. 2022): graph networks over the chain of nucleotides, with energies and omics tracks.

A node is a nucleotide, and edges lead to its neighbours on the chain: to those within `reach` bases. The layers are
the graph convolution (GCN; Kipf & Welling 2017), the graph attention (GAT; Veličković et al. 2018) and GraphSAGE with
means (Hamilton et al. 2017). As published: the chain, one-hot letters and omics tracks at each node, a decision for
each, and layers of the three kinds. Different: the published networks have three plain layers and edges to the next
base alone, so that a base knows of three on either side; here layers are residual and normalised, edges reach further
(six layers to three bases: eighteen on either side), and energies of turning are read too, by Z-HUNT's whole model. As
in `zflipon.models.families.deepz`, tracks, widths, labels and windows are the recipe's. On a chain the layers are sums over
shifts, so that no library of graphs is needed; the tests hold them against dense adjacency.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zflipon.models.families.nucleotides import NucleotideConfig, NucleotideModel, whole
from zflipon.models.registry import ModelFamily
from zflipon.tokenization.tokenizers import BaseTokenizer


class GraphzConfig(NucleotideConfig):
    """Shape of a GraphZ network: `variant` is ``'sage'``, ``'gcn'`` or ``'gat'``.

    Parameters
    ----------
    reach : int
        Bases on either side to which edges lead.
    num_attention_heads : int
        Of GAT; they share the hidden size.
    """

    model_type = "zflipon-graphz"
    variants = ("sage", "gcn", "gat")

    def __init__(self, reach: int = 3, num_attention_heads: int = 4, num_hidden_layers: int = 6, **rest):
        super().__init__(num_hidden_layers=num_hidden_layers, **rest)
        self.reach = reach
        self.num_attention_heads = num_attention_heads
        self.require("reach", whole(reach, 1), "a number of bases from 1 on")
        shared = whole(num_attention_heads, 1) and self.hidden_size % num_attention_heads == 0
        self.require(
            "num_attention_heads",
            shared or self.variant != "gat",
            f"a number that divides hidden_size ({self.hidden_size})",
        )


def neighbours(x: Tensor, reach: int) -> Tensor:
    """Return the values of a base and its neighbours, from the left to the right.

    Parameters
    ----------
    x : Tensor
        Shape (batch, bases, width).
    reach : int

    Returns
    -------
    Tensor
        Shape (batch, bases, width, 2 × reach + 1); 0 beyond the ends.
    """
    return F.pad(x, (0, 0, reach, reach)).unfold(1, 2 * reach + 1, 1)


def around(x: Tensor, reach: int) -> Tensor:
    """Return the sum over a base and its neighbours, of the shape of `x`, (batch, bases, width)."""
    sums = F.pad(x, (0, 0, reach, reach))
    return sum(sums[:, shift : shift + x.shape[1]] for shift in range(2 * reach + 1))


class GcnLayer(nn.Module):
    """D^-1/2 (A + I) D^-1/2 X W, D being the degrees with the loop."""

    def __init__(self, width: int, hidden: int, reach: int, _heads: int):
        super().__init__()
        self.reach = reach
        self.linear = nn.Linear(width, hidden)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        """Map (batch, bases, width) to (batch, bases, hidden)."""
        scale = inside * around(inside, self.reach).clamp(min=1).rsqrt()
        return self.linear(scale * around(scale * x, self.reach))


class SageLayer(nn.Module):
    """X W + mean of the neighbours W'."""

    def __init__(self, width: int, hidden: int, reach: int, _heads: int):
        super().__init__()
        self.reach = reach
        self.own, self.others = nn.Linear(width, hidden), nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        """Map (batch, bases, width) to (batch, bases, hidden)."""
        x = x * inside
        count = (around(inside, self.reach) - inside).clamp(min=1)
        return self.own(x) + self.others((around(x, self.reach) - x) / count)


class GatLayer(nn.Module):
    """Each head's mean of X W over a base and its neighbours, weighted by softmax of LeakyReLU(a · [x_i, x_j])."""

    def __init__(self, width: int, hidden: int, reach: int, heads: int):
        super().__init__()
        self.reach, self.heads = reach, heads
        self.linear = nn.Linear(width, hidden)
        self.receiving, self.sending = (nn.Linear(hidden // heads, 1, bias=False) for _ in range(2))

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        """Map (batch, bases, width) to (batch, bases, hidden)."""
        batch, bases, _ = x.shape
        values = self.linear(x)
        split = values.view(batch, bases, self.heads, -1)
        own, others = self.receiving(split).squeeze(-1), self.sending(split).squeeze(-1)
        score = F.leaky_relu(own.unsqueeze(-1) + neighbours(others, self.reach), 0.2)
        there = neighbours(inside, self.reach)  # of one width: it stands for all heads
        weight = torch.softmax(score.masked_fill(there == 0, -1e4), dim=-1) * there
        near = F.pad(split, (0, 0, 0, 0, self.reach, self.reach))
        # a shift at a time: all neighbours' values at once would be 2 × reach + 1 copies of them
        parts = (near[:, at : at + bases] * weight[..., at, None] for at in range(2 * self.reach + 1))
        return sum(parts).flatten(2)


LAYERS = {"gcn": GcnLayer, "gat": GatLayer, "sage": SageLayer}


class GraphzModel(NucleotideModel):
    """The networks of GraphZ."""

    config_class = GraphzConfig

    def build(self, config: GraphzConfig, width: int) -> int:
        """Make a layer after the other."""
        hidden, make = config.hidden_size, LAYERS[config.variant]
        self.entry = nn.Linear(width, hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(config.num_hidden_layers))
        self.layers = nn.ModuleList(
            make(hidden, hidden, config.reach, config.num_attention_heads)
            for _ in range(config.num_hidden_layers)
        )
        return hidden

    def states(self, x: Tensor, inside: Tensor) -> Tensor:
        """Return the state of each base."""
        x = self.entry(x) * inside
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = x + self.dropout(F.gelu(layer(norm(x) * inside, inside))) * inside
        return x

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if not isinstance(module, nn.Linear):  # whose weights torch scales by their width
            super()._init_weights(module)


def recognizes(config: dict) -> bool:
    """Return whether a ``config.json`` is this family's, by its ``model_type``."""
    return config.get("model_type") == GraphzConfig.model_type


FAMILY = ModelFamily(
    model=GraphzModel,
    config=GraphzConfig,
    tokenizer=BaseTokenizer,
    recognizes=recognizes,
    default_metadata={"window": 1024, "margin": 128, "objective": "base"},
    reads_tokens=False,
)
