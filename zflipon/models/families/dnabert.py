"""DNABERT (Ji et al. 2021) and Z-DNABERT: plain BERT over overlapping k-mers.

The layers are in `zflipon.models.families.bert`.
"""

from __future__ import annotations

from transformers import BertConfig

from zflipon.models.families.bert import BERT_TYPES, BertModel
from zflipon.models.registry import ModelFamily
from zflipon.tokenization.tokenizers import KmerTokenizer

VOCABULARIES = {4**k + 5: k for k in (3, 4, 5, 6)}
"""Vocabulary size (all k-mers and five special tokens) → k."""


class DnaBertConfig(BertConfig):
    """Shape of DNABERT; the defaults are those of the published models."""

    model_type = "bert"
    vocab_size: int = 4101


class DnaBertModel(BertModel):
    """The DNABERT encoder under any head."""

    config_class = DnaBertConfig


def recognizes(config: dict) -> bool:
    """Return whether a ``config.json`` is DNABERT's: plain BERT with a vocabulary of k-mers."""
    return config.get("model_type") in BERT_TYPES and config.get("vocab_size") in VOCABULARIES


FAMILY = ModelFamily(
    model=DnaBertModel,
    config=DnaBertConfig,
    tokenizer=KmerTokenizer,
    recognizes=recognizes,
    tokenizer_file="vocab.txt",
    default_metadata={"window": 512, "margin": 64},
    lora_targets=("query", "value"),
)
