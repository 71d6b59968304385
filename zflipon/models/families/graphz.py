"""GraphZ (Voytetskiy et al. 2022): graph networks over the chain of nucleotides, with energies and omics tracks.

A node is a nucleotide; edges connect it to all nucleotides within `reach` bases on the chain. Layers are graph
convolutions (GCN; Kipf & Welling 2017), graph attention (GAT; Veličković et al. 2018) or GraphSAGE with mean
aggregation (Hamilton et al. 2017). As published: the chain, letters and omics tracks at each node, a logit for each
node, layers of the three kinds. Different here: the published networks have three plain layers with edges to the next
base only, so a base reads three bases on either side; here layers are residual and normalized, six layers with a reach
of three read eighteen bases on either side, and Z-HUNT energies are inputs too. As in `zflipon.models.families.deepz`,
tracks, widths, labels and windows are those of the recipe. On a chain, all layers are sums over shifted copies, so no
graph library is needed; tests compare them with dense adjacency matrices.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zflipon.models.families.nucleotides import NucleotideConfig, NucleotideModel, is_integer
from zflipon.models.registry import ModelFamily
from zflipon.tokenization.tokenizers import BaseTokenizer


class GraphzConfig(NucleotideConfig):
    """Shape of a GraphZ network: `variant` is ``'sage'``, ``'gcn'`` or ``'gat'``.

    Parameters
    ----------
    reach : int
        Bases on either side to which a node has edges.
    num_attention_heads : int
        Of GAT only; divides ``hidden_size``.
    """

    model_type = "zflipon-graphz"
    variants = ("sage", "gcn", "gat")

    def __init__(self, reach: int = 3, num_attention_heads: int = 4, num_hidden_layers: int = 6, **others):
        super().__init__(num_hidden_layers=num_hidden_layers, **others)
        self.reach = reach
        self.num_attention_heads = num_attention_heads
        self.require("reach", is_integer(reach, 1), "a number of bases, 1 or more")
        divides = is_integer(num_attention_heads, 1) and self.hidden_size % num_attention_heads == 0
        self.require(
            "num_attention_heads",
            divides or self.variant != "gat",
            f"a number that divides hidden_size ({self.hidden_size})",
        )


def neighbours(x: Tensor, reach: int) -> Tensor:
    """Return the values of each base and its neighbours, from left to right.

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


def neighbour_sum(x: Tensor, reach: int) -> Tensor:
    """Return the sum over each base and its neighbours, the shape of `x`: (batch, bases, width)."""
    sums = F.pad(x, (0, 0, reach, reach))
    shifted = (sums[:, shift : shift + x.shape[1]] for shift in range(2 * reach + 1))
    return sum(shifted, start=sums.new_zeros(()))


class GcnLayer(nn.Module):
    """D^-1/2 (A + I) D^-1/2 X W, where D are the degrees including the self-loop."""

    def __init__(self, width: int, hidden: int, reach: int, _heads: int):
        super().__init__()
        self.reach = reach
        self.linear = nn.Linear(width, hidden)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, bases, width) to (batch, bases, hidden)."""
        scale = mask * neighbour_sum(mask, self.reach).clamp(min=1).rsqrt()
        return self.linear(scale * neighbour_sum(scale * x, self.reach))


class SageLayer(nn.Module):
    """X W plus the mean of the neighbours times W'."""

    def __init__(self, width: int, hidden: int, reach: int, _heads: int):
        super().__init__()
        self.reach = reach
        self.own, self.others = nn.Linear(width, hidden), nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, bases, width) to (batch, bases, hidden)."""
        x = x * mask
        count = (neighbour_sum(mask, self.reach) - mask).clamp(min=1)
        return self.own(x) + self.others((neighbour_sum(x, self.reach) - x) / count)


class GatLayer(nn.Module):
    """Each head's mean of X W over a base and its neighbours, weighted by softmax of LeakyReLU(a · [x_i, x_j])."""

    def __init__(self, width: int, hidden: int, reach: int, heads: int):
        super().__init__()
        self.reach, self.heads = reach, heads
        self.linear = nn.Linear(width, hidden)
        self.receiving, self.sending = (nn.Linear(hidden // heads, 1, bias=False) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, bases, width) to (batch, bases, hidden)."""
        batch, bases, _ = x.shape
        values = self.linear(x)
        split = values.view(batch, bases, self.heads, -1)
        own, others = self.receiving(split).squeeze(-1), self.sending(split).squeeze(-1)
        score = F.leaky_relu(own.unsqueeze(-1) + neighbours(others, self.reach), 0.2)
        exists = neighbours(mask, self.reach)  # width 1, broadcast over the heads
        weight = torch.softmax(score.masked_fill(exists == 0, -1e4), dim=-1) * exists
        near = F.pad(split, (0, 0, 0, 0, self.reach, self.reach))
        # one shift at a time: gathering all neighbours at once would take 2 × reach + 1 times the memory
        parts = (near[:, at : at + bases] * weight[..., at, None] for at in range(2 * self.reach + 1))
        return sum(parts, start=near.new_zeros(())).flatten(2)


LAYERS = {"gcn": GcnLayer, "gat": GatLayer, "sage": SageLayer}


class GraphzModel(NucleotideModel):
    """The networks of GraphZ."""

    config_class = GraphzConfig

    def build_layers(self, config: GraphzConfig, width: int) -> int:
        """Create an entry layer and the graph layers."""
        hidden, layer_class = config.hidden_size, LAYERS[config.variant]
        self.entry = nn.Linear(width, hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(config.num_hidden_layers))
        self.layers = nn.ModuleList(
            layer_class(hidden, hidden, config.reach, config.num_attention_heads)
            for _ in range(config.num_hidden_layers)
        )
        return hidden

    def states(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the state of each base."""
        x = self.entry(x) * mask
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = x + self.dropout(F.gelu(layer(norm(x) * mask, mask))) * mask
        return x

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # torch's default scales linear layers by their width, BERT's does not
        if isinstance(module, nn.Linear):
            module.reset_parameters()
        else:
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
