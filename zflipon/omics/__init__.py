"""Omics tracks that a model reads beside the sequence."""
