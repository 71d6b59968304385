"""Small models, sequences and targets that the tests of attributions share."""

import numpy as np
import torch
from conftest import dna
from small_models import _tokenizer

from zflipon.config import AttributionConfig
from zflipon.explain.attribution import AttributionTarget
from zflipon.explain.integrated_gradients import IntegratedGradientsExplainer
from zflipon.models import create, family_names, get_family

FAMILIES = [name for name in family_names() if get_family(name).reads_tokens]

OBJECTIVES = ("token", "base", "sequence")

SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}

BASE_HEAD = {"channels": 8, "kernel": 5, "dilations": [1, 2], "context": 16, "context_dilations": [1, 2]}

Z_FORMING = "CGCGCGCGTGCGCGCACG"
"""A sequence that Z-HUNT calls."""


def windows(count=3, size=64):
    """Return random windows of different lengths, each with `Z_FORMING` at base 20."""
    texts = [dna(size + 9 * i, i) for i in range(count)]
    return [text[:20] + Z_FORMING + text[20 + len(Z_FORMING) :] for text in texts]


def small_model(family, objective, seed=2, **base_head):
    """Return a model with random weights, wider than at the start of training, so that outputs differ."""
    torch.manual_seed(seed)
    extra = {"local_attention": 16} if family == "modernbert" else {}
    tokenizer = _tokenizer(family, None, 0)
    head = {**BASE_HEAD, **base_head}
    checkpoint = create(family, objective, tokenizer, initializer_range=0.1, base_head=head, **SHAPE, **extra)
    checkpoint.module.eval()
    return checkpoint


def random_target(checkpoint, sequences, index):
    """Return a target with unequal weights over the outputs for one sequence."""
    tokens = checkpoint.tokenizer.encode([sequences[index]])[0]
    size = {"token": len(tokens.ids), "base": len(sequences[index]), "sequence": 1}
    rng = np.random.default_rng(index)
    weights = rng.uniform(0.2, 1, size[checkpoint.metadata.objective]).astype(np.float32)
    if checkpoint.metadata.objective == "base":  # as calls are explained: the mean over some bases
        weights[:18] = weights[42:] = 0
        weights /= weights.sum()
    return AttributionTarget(index, weights)


def attribute(checkpoint, sequences, targets=None, **settings):
    """Return attributions in the order of the targets."""
    targets = targets or [random_target(checkpoint, sequences, index) for index in range(len(sequences))]
    explainer = IntegratedGradientsExplainer(checkpoint, AttributionConfig(**settings), "cpu")
    attributions = list(explainer.attribute(sequences, targets))
    return [next(each for each in attributions if each.target is target) for target in targets]
