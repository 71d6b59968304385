"""Sentences on the input of a run and the training data of its model, from a run record."""

from __future__ import annotations

from collections.abc import Mapping


def describe_domain(record: Mapping) -> str | None:
    """Return how the input of a run compares with the training data of its model; None if this is not recorded."""
    domain = record.get("domain")
    if not isinstance(domain, Mapping):
        return None
    if domain.get("status") == "outside":
        differences = "; ".join(map(str, domain.get("differences", ())))
        return f"unlike the input, so that probabilities have no known meaning: {differences}"
    if domain.get("status") == "inside":
        return f"like the input, in {1 - (domain.get('outside') or 0):.0%} of {domain.get('windows', 0):,} windows"
    return "not compared with the input, which has too little sequence"


def domain_warning(record: Mapping) -> str:
    """Return a warning if the sequence of a run is outside the domain of its model and its score depends on that."""
    domain = record.get("domain")
    is_outside = isinstance(domain, Mapping) and domain.get("status") == "outside"
    if not is_outside or record.get("score") == "propensity":
        return ""
    return f"The training data of the model are {describe_domain(record)}."
