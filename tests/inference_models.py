"""A small model with spread-out probabilities, and sequences for it; shared by the tests of inference."""

from dataclasses import replace

import numpy as np
import torch

from zflipon.config import InferenceConfig
from zflipon.inference.predictor import Predictor
from zflipon.models import Calibration, create
from zflipon.reproduction.small_inputs import small_tokenizer

CPU = InferenceConfig(device="cpu")
SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TRANSFORMER_SHAPE = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}


def compact_checkpoint(tokenizer, objective, **metadata):
    """Return a compact model with random weights, calibrated so that its probabilities are spread out."""
    torch.manual_seed(3)
    made = create("compact", objective, tokenizer, initializer_range=0.5, base_head={"channels": 8}, **SHAPE)
    calibration = Calibration(1.0, 5.0 if objective == "base" else 0.0)
    return replace(made, metadata=replace(made.metadata, **{"calibration": calibration, **metadata}))


def transformer_checkpoint(tokenizer, family, objective="token"):
    """Return a transformer with random weights, whose probabilities are spread out."""
    torch.manual_seed(5)
    if family == "dnabert":
        tokenizer = small_tokenizer(family, ["ACGTTGCA"])
    return create(family, objective, tokenizer, initializer_range=0.1, **TRANSFORMER_SHAPE)


def predict(checkpoint, sequences, config=CPU, **options):
    """Return the probabilities of sequences by a new predictor."""
    return Predictor(checkpoint, config, **options).predict_probabilities(sequences)


def random_dna(rng, length):
    return "".join(rng.choice(list("ACGT"), size=length))


def mixed_sequences(rng):
    """Return sequences of many lengths, two of them with N and IUPAC codes."""
    sequences = [random_dna(rng, int(length)) for length in rng.integers(1, 400, size=70)]
    sequences[3] = sequences[3][:20] + "NNNNNNNNNNNNNN" + sequences[3][20:]
    sequences[4] = "RYACGTN" + sequences[4]
    return sequences


def generator():
    return np.random.default_rng(7)
