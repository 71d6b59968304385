"""Omics tracks that a model reads next to the sequence."""
