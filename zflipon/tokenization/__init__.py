"""Tokenizers, and the alignment of tokens with bases."""
