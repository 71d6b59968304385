"""Train a byte-pair encoding of DNA.

Only the tokenizer is trained here; models are trained in `zflipon.training`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

from zflipon.tokenization.bpe import limit_token_length
from zflipon.tokenization.tokenizers import BpeTokenizer

SPECIAL_TOKENS = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
"""Special tokens of the tokenizers that zflipon trains, in id order. DNABERT-2 and GENA-LM use the same order."""


def train_bpe(sequences: Sequence[str], vocab_size: int, max_token_length: int) -> BpeTokenizer:
    """Train a BPE tokenizer of A, C, G and T that encodes any other letter as one ``[UNK]``.

    Parameters
    ----------
    sequences : sequence of str
        Upper case. Each run of A, C, G and T is one word of the training text; a few kilobases per sequence keep the
        training fast.
    vocab_size : int
        Number of tokens, including the special tokens and the four bases.
    max_token_length : int
        Bases of the longest token.

    Returns
    -------
    BpeTokenizer
    """
    tokenizer = Tokenizer(BPE(unk_token="[UNK]"))
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        max_token_length=max_token_length + 1,  # the library excludes this length
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=list("ACGT"),
        show_progress=False,
    )
    words = (word for sequence in sequences for word in re.findall("[ACGT]+", sequence))
    tokenizer.train_from_iterator(words, trainer)
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return BpeTokenizer(limit_token_length(tokenizer, max_token_length))
