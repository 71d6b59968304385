"""Splits into training, validation and test data: random and stratified, by blocks, by whole contigs, and by folds.

Works on arrays and names alone; `zflipon.training.dataset` applies the splits to windows and files.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from zflipon.config import DataConfig
from zflipon.errors import InputError, format_names, suggest
from zflipon.genome.split_files import PARTS

CONTIG_LISTS = ("contigs", "exclude_contigs", "validation_contigs", "test_contigs")
"""Keys of a recipe's data section that list contigs."""


def stratified_split(strata: np.ndarray, shares: Mapping[str, float], seed: int) -> dict[str, np.ndarray]:
    """Split items at random, so that each part has its share of every stratum.

    Parameters
    ----------
    strata : numpy.ndarray
        int, shape (n,): stratum of each item, such as its label and contig.
    shares : mapping of str to float
        Part → share of the items; the shares add up to 1.
    seed : int

    Returns
    -------
    dict of str to numpy.ndarray
        Part → int64 indices in ascending order. Parts are disjoint and cover all items. Items left over by rounding go
        to the part that is furthest below its share over all strata so far, so that the total sizes are right.

    Examples
    --------
    >>> parts = stratified_split(np.array([0, 0, 0, 0, 1, 1]), {"train": 0.5, "test": 0.5}, seed=1)
    >>> {name: len(indices) for name, indices in parts.items()}
    {'train': 3, 'test': 3}
    """
    rng = np.random.default_rng(seed)
    names, wanted = list(shares), np.array(list(shares.values()))
    assigned, total = np.zeros(len(names), dtype=np.int64), 0
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for stratum in np.unique(strata):
        items = rng.permutation(np.flatnonzero(strata == stratum))
        total += len(items)
        sizes = np.floor(wanted * len(items)).astype(np.int64)
        for _ in range(len(items) - sizes.sum()):
            sizes[np.argmax(wanted * total - assigned - sizes)] += 1
        assigned += sizes
        for name, indices in zip(names, np.split(items, np.cumsum(sizes)[:-1]), strict=True):
            parts[name].append(indices)
    return {name: np.sort(np.concatenate(indices)) for name, indices in parts.items()}


def fold_parts(count: int, fold: int, validation_share: float) -> dict[str, list[int]]:
    """Return the groups of items that a fold of cross-validation uses for test, validation and training.

    The fold's own group is the test data. The groups after it, cyclically, are the validation data: the number closest
    to `validation_share`, at least one unless the share is 0.

    Parameters
    ----------
    count : int
        Folds, and groups.
    fold : int
        From 1.
    validation_share : float
        Share of all items.

    Examples
    --------
    >>> fold_parts(5, fold=5, validation_share=0.2)
    {'test': [4], 'validation': [0], 'train': [1, 2, 3]}
    """
    order = [(fold - 1 + step) % count for step in range(count)]
    size = min(count - 2, max(1, round(validation_share * count))) if count > 2 and validation_share else 0
    return {"test": order[:1], "validation": order[1 : 1 + size], "train": order[1 + size :]}


def split_items(strata: np.ndarray, data: DataConfig) -> dict[str, np.ndarray]:
    """Split items by the shares of a recipe, or by the folds of its cross-validation; see `stratified_split`.

    With ``split = 'random'``, the strata are not used.
    """
    if data.split == "random":
        strata = np.zeros_like(strata)
    if not data.folds:
        shares = {
            "train": 1 - data.validation_share - data.test_share,
            "validation": data.validation_share,
            "test": data.test_share,
        }
        return stratified_split(strata, shares, data.seed)
    groups = stratified_split(strata, {str(i): 1 / data.folds for i in range(data.folds)}, data.seed)
    numbers = fold_parts(data.folds, data.fold, data.validation_share)
    return {
        part: np.sort(np.concatenate([np.empty(0, dtype=np.int64), *(groups[str(i)] for i in chosen)]))
        for part, chosen in numbers.items()
    }


def split_blocks(blocks: np.ndarray, labelled: np.ndarray, data: DataConfig) -> dict[str, np.ndarray]:
    """Split items so that those of a block are in the same part.

    Parameters
    ----------
    blocks : numpy.ndarray
        int64, shape (n,): number of the block of each item.
    labelled : numpy.ndarray
        bool, shape (n,).
    data : DataConfig

    Returns
    -------
    dict of str to numpy.ndarray
        As `split_items`. Blocks with the same number of labelled items are divided by the shares.

    Examples
    --------
    >>> data = DataConfig(validation_share=0, test_share=0.5)
    >>> parts = split_blocks(np.array([7, 7, 8, 8]), np.array([True, False, True, False]), data)
    >>> sorted(parts["train"].tolist() + parts["test"].tolist()), parts["test"].tolist() in ([0, 1], [2, 3])
    ([0, 1, 2, 3], True)
    """
    _, number = np.unique(blocks, return_inverse=True)
    counts = np.bincount(number, weights=labelled).astype(np.int64)
    return {
        part: np.flatnonzero(np.isin(number, chosen)) for part, chosen in split_items(counts, data).items()
    }


def split_contigs(data: DataConfig, lengths: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Assign the contigs of a genome to training, validation and test data.

    Parameters
    ----------
    data : DataConfig
    lengths : mapping of str to int
        All contigs of the genome.

    Returns
    -------
    dict of str to dict of str to int
        Part → contigs with their lengths, in the genome's order. If windows are split at random, the contigs whose
        windows are split are in ``'train'``.

    Raises
    ------
    InputError
        If a contig is unknown, if no contig is left to train on, or if all contigs of a part are too short.
    """
    data = expand_patterns(data, lengths)
    lengths = _selected_contigs(data, lengths)
    lists = {f"held_out_models[{number}]": contigs for number, contigs in enumerate(data.held_out_models)}
    lists |= {"validation_contigs": data.validation_contigs, "test_contigs": data.test_contigs}
    for key, contigs in lists.items():
        _require_known(f"data.{key}", contigs, lengths, data.genome)
    named = {"validation": set(data.validation_contigs), "test": set(data.test_contigs)}
    if data.folds and data.split == "contigs":
        named = _contig_folds(data, lengths)
    excluded = named["validation"] | named["test"]
    parts = {
        "train": {contig: size for contig, size in lengths.items() if contig not in excluded},
        **{
            part: {c: size for c, size in lengths.items() if c in names and size >= data.shortest_evaluated}
            for part, names in named.items()
        },
    }
    if any(not parts["train"].keys() - set(contigs) for contigs in [(), *data.held_out_models]):
        raise InputError(
            "data: no contig is left to train on; take some out of held_out_models, validation_contigs or test_contigs"
        )
    for part, names in named.items():
        if names and not parts[part]:
            raise InputError(
                f"data.shortest_evaluated: no {part} contig has {data.shortest_evaluated:,} bases; lower it"
            )
    return {part: parts[part] for part in PARTS}


def expand_patterns(data: DataConfig, lengths: Mapping[str, int]) -> DataConfig:
    """Replace patterns such as ``chr20*`` in all lists of contigs by the contigs that match.

    A pattern without a match stays as it is, and is reported as unknown.
    """

    def expand(names: tuple[str, ...]) -> tuple[str, ...]:
        found = [fnmatch.filter(lengths, name) if set(name) & set("*?[") else [name] for name in names]
        return tuple(
            dict.fromkeys(
                contig for name, each in zip(names, found, strict=True) for contig in each or [name]
            )
        )

    lists = {key: expand(getattr(data, key)) for key in CONTIG_LISTS}
    return replace(data, **lists, held_out_models=tuple(map(expand, data.held_out_models)))


def _selected_contigs(data: DataConfig, lengths: Mapping[str, int]) -> dict[str, int]:
    """Return the contigs that ``data.contigs`` and ``data.exclude_contigs`` leave."""
    for key in ("contigs", "exclude_contigs"):
        _require_known(f"data.{key}", getattr(data, key), lengths, data.genome)
    chosen = set(data.contigs or lengths) - set(data.exclude_contigs)
    return {contig: size for contig, size in lengths.items() if contig in chosen}


def _require_known(key: str, contigs: tuple[str, ...], lengths: Mapping[str, int], genome: str) -> None:
    unknown = [contig for contig in contigs if contig not in lengths]
    if unknown:
        raise InputError(
            f"{key}: {format_names(unknown)} not among the contigs of {genome}, which are {format_names(lengths)}"
            f"{suggest(unknown[0], lengths)}; correct the recipe"
        )


def _contig_folds(data: DataConfig, lengths: Mapping[str, int]) -> dict[str, set[str]]:
    """Group contigs into folds of similar size: the longest first, each into the shortest group so far."""
    if len(lengths) < data.folds:
        raise InputError(
            f"data.folds: {len(lengths)} contigs cannot make {data.folds} folds; lower folds, or set "
            "split = 'stratified'"
        )
    groups: list[list[str]] = [[] for _ in range(data.folds)]
    for contig in sorted(lengths, key=lambda name: (-lengths[name], name)):
        min(groups, key=lambda group: sum(lengths[name] for name in group)).append(contig)
    numbers = fold_parts(data.folds, data.fold, data.validation_share)
    return {part: {name for i in numbers[part] for name in groups[i]} for part in ("validation", "test")}
