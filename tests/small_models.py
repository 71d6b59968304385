"""Create small models with random weights in the layouts of published ones, so that recipes run in minutes.

python tests/small_models.py OUT [--tokenizers FOLDER]

Writes the folders ``dnabert2``, ``gena``, ``dnabert`` and ``modernbert`` into OUT, each with ``config.json`` (published
keys, no metadata of zflipon), ``pytorch_model.bin`` (encoder and masked-LM head) and the tokenizer. FOLDER holds the
published tokenizers (``dnabert2_max5.json``, ``gena_t2t_32k.json``); without it, tokenizers are trained on random DNA.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from zflipon.reproduction.catalogue import PretrainedModel
from zflipon.reproduction.small_inputs import make_small_model, small_tokenizer
from zflipon.tokenization.tokenizers import BpeTokenizer

OFFICIAL = {
    "dnabert2": {"model_type": "bert", "architectures": ["BertForMaskedLM"], "alibi_starting_size": 512},
    "gena": {
        "model_type": "bert",
        "architectures": ["BertForMaskedLM"],
        "pre_layer_norm": True,
        "last_layer_norm": True,
    },
    "dnabert": {"model_type": "bert", "architectures": ["BertForMaskedLM"], "max_position_embeddings": 512},
    "modernbert": {"model_type": "modernbert", "architectures": ["ModernBertForMaskedLM"]},
}
"""Keys of a published ``config.json``, without the shape."""

PUBLISHED = {"dnabert2": "dnabert2_max5.json", "gena": "gena_t2t_32k.json"}


def make_small_models(out: Path, tokenizers: Path | None = None, seed: int = 0) -> dict[str, Path]:
    """Write the models and return their folders by family."""
    folders = {}
    for family, official in OFFICIAL.items():
        own = {"local_attention": 32} if family == "modernbert" else {}
        model = PretrainedModel(family, family, family, official)
        folders[family] = make_small_model(
            model, out / family, _tokenizer(family, tokenizers, seed), seed, **own
        )
    return folders


def _tokenizer(family: str, published: Path | None, seed: int):
    if published and family in PUBLISHED:
        return BpeTokenizer(Tokenizer.from_file(str(published / PUBLISHED[family])))
    rng = np.random.default_rng(seed)
    return small_tokenizer(family, ["".join(rng.choice(list("ACGT"), 1000)) for _ in range(50)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokenizers", type=Path)
    arguments = parser.parse_args()
    for name, path in make_small_models(arguments.out, arguments.tokenizers).items():
        print(f"{name}\t{path}")
