"""Explanations of a model's calls: token tables, attributions, rankings, k-mers, omics tracks, and figures.

Nothing here trains or annotates.
"""
