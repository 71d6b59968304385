"""Tokenizers of DNA, and the alignment of tokens and bases.

Names are imported on first use, so that importing this package loads neither numpy nor the tokenizers library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zflipon.tokenization.alignment import labels_to_tokens, token_of_base, tokens_to_bases
    from zflipon.tokenization.bpe import limit_token_length
    from zflipon.tokenization.bpe_training import train_bpe
    from zflipon.tokenization.tokenizers import BaseTokenizer, BpeTokenizer, DnaTokenizer, KmerTokenizer
    from zflipon.tokenization.tokens import TokenBatch, Tokens

__all__ = [
    "BaseTokenizer",
    "BpeTokenizer",
    "DnaTokenizer",
    "KmerTokenizer",
    "TokenBatch",
    "Tokens",
    "labels_to_tokens",
    "limit_token_length",
    "token_of_base",
    "tokens_to_bases",
    "train_bpe",
]

_MODULES = {
    "labels_to_tokens": "alignment",
    "token_of_base": "alignment",
    "tokens_to_bases": "alignment",
    "limit_token_length": "bpe",
    "train_bpe": "bpe_training",
    "BaseTokenizer": "tokenizers",
    "BpeTokenizer": "tokenizers",
    "DnaTokenizer": "tokenizers",
    "KmerTokenizer": "tokenizers",
    "TokenBatch": "tokens",
    "Tokens": "tokens",
}


def __getattr__(name: str) -> object:
    """Import the module that defines a public name."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
