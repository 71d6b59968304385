"""The tokenizer of a checkpoint: read from its folder and set up as the metadata require.

Tokenizers themselves are in `zflipon.tokenization.tokenizers`.
"""

from __future__ import annotations

from pathlib import Path

from zflipon.errors import ModelError
from zflipon.models.base import DnaModel
from zflipon.models.files import CheckpointFiles
from zflipon.models.metadata import ModelMetadata
from zflipon.models.registry import get_family
from zflipon.tokenization.tokenizers import BpeTokenizer, DnaTokenizer, KmerTokenizer


def read_tokenizer(files: CheckpointFiles, metadata: ModelMetadata, path: Path | None = None) -> DnaTokenizer:
    """Load the tokenizer of a checkpoint, or that in the file `path`, with the token length of the metadata."""
    kind = get_family(metadata.family)
    tokenizer = kind.tokenizer.from_file(path or files.find_tokenizer(kind.tokenizer_file))
    limit = metadata.max_token_length
    if limit is not None and limit < tokenizer.max_token_length:
        if not isinstance(tokenizer, BpeTokenizer):
            raise ModelError(
                f"{files.folder}: tokens of this family cannot be limited to {limit} bases; leave max_token_length out"
            )
        tokenizer = tokenizer.with_max_token_length(limit)
    return set_special_tokens(tokenizer, metadata, files.folder)


def set_special_tokens(tokenizer: DnaTokenizer, metadata: ModelMetadata, source: object) -> DnaTokenizer:
    """Return the tokenizer with or without ``[CLS]`` and ``[SEP]``, as in the metadata."""
    if metadata.special_tokens == getattr(tokenizer, "special_tokens", True):
        return tokenizer
    if not isinstance(tokenizer, KmerTokenizer):
        raise ModelError(f"{source}: special_tokens = false is possible with k-mers only")
    return tokenizer.with_special_tokens(metadata.special_tokens)


def check_vocabulary(files: CheckpointFiles, module: DnaModel, tokenizer: DnaTokenizer) -> None:
    """Refuse a tokenizer with ids that the network has no embedding for."""
    if tokenizer.vocab_size > module.config.vocab_size:
        raise ModelError(
            f"{files.folder}: the tokenizer has ids up to {tokenizer.vocab_size - 1}, "
            f"the model {module.config.vocab_size} tokens; they are not of one checkpoint"
        )
