"""Create small models with random weights in the layouts of published ones, so that recipes run in minutes.

python tests/small_models.py OUT [--tokenizers FOLDER]

Writes the folders ``dnabert2``, ``gena``, ``dnabert`` and ``modernbert`` into OUT, each with ``config.json`` (published
keys, no metadata of zflipon), ``pytorch_model.bin`` (encoder and masked-LM head) and the tokenizer. FOLDER holds the
published tokenizers (``dnabert2_max5.json``, ``gena_t2t_32k.json``); without it, tokenizers are trained on random DNA.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from zflipon.models import create
from zflipon.tokenization.bpe_training import train_bpe
from zflipon.tokenization.tokenizers import BpeTokenizer, KmerTokenizer

SHAPE = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}

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

FEW = {"vocab_size": 256, "max_token_length": 8}


def make_small_models(out: Path, tokenizers: Path | None = None, seed: int = 0) -> dict[str, Path]:
    """Write the models and return their folders by family."""
    folders = {}
    for family, official in OFFICIAL.items():
        torch.manual_seed(seed)
        tokenizer = _tokenizer(family, tokenizers, seed)
        own = {"local_attention": 32} if family == "modernbert" else {}
        made = create(family, "mlm", tokenizer, **SHAPE, **own)
        folder = folders[family] = out / family
        folder.mkdir(parents=True, exist_ok=True)
        keys = {
            **SHAPE,
            **own,
            "vocab_size": made.module.config.vocab_size,
            "pad_token_id": tokenizer.pad_id,
            **official,
        }
        (folder / "config.json").write_text(json.dumps(keys, indent=1))
        torch.save(made.module.state_dict(), folder / "pytorch_model.bin")
        tokenizer.save(folder)
    return folders


def _tokenizer(family: str, published: Path | None, seed: int):
    if family == "dnabert":
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map("".join, product("ACGT", repeat=6))]
        return KmerTokenizer({word: index for index, word in enumerate(words)})
    if published and family in PUBLISHED:
        return BpeTokenizer(Tokenizer.from_file(str(published / PUBLISHED[family])))
    rng = np.random.default_rng(seed)
    return train_bpe(["".join(rng.choice(list("ACGT"), 1000)) for _ in range(50)], **FEW)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokenizers", type=Path)
    arguments = parser.parse_args()
    for name, path in make_small_models(arguments.out, arguments.tokenizers).items():
        print(f"{name}\t{path}")
