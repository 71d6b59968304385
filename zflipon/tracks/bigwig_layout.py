"""Binary layout of bigWig files: constants, headers, and the trees that index contigs and data blocks.

Shared by the checks of `zflipon.tracks.bigwig_structure` and by `zflipon.tracks.bigwig_writer`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from os import SEEK_CUR
from typing import BinaryIO

import numpy as np

BIGWIG_MAGIC = 0x888FFC26
CONTIG_TREE_MAGIC = 0x78CA8C91
INDEX_MAGIC = 0x2468ACE0

HEADER = struct.Struct("<IHHQQQHHQQIQ")
ZOOM_HEADER = struct.Struct("<IIQQ")
SUMMARY = struct.Struct("<Qdddd")
"""Bases with a value, minimum, maximum, sum, sum of squares."""

CONTIG_TREE_HEADER = struct.Struct("<IIIIQQ")
INDEX_HEADER = struct.Struct("<IIQIIIIQII")
NODE = struct.Struct("<BBH")
BLOCK_HEADER = struct.Struct("<IIIIIBBH")

LEAF_DTYPE = np.dtype([("bounds", "<u4", 4), ("offset", "<u8"), ("size", "<u8")])
"""Data block in the index; the bounds are first contig, start, last contig, end."""

BRANCH_DTYPE = np.dtype([("bounds", "<u4", 4), ("offset", "<u8")])
ENTRY_DTYPE = np.dtype([("start", "<u4"), ("end", "<u4"), ("value", "<f4")])
ZOOM_DTYPE = np.dtype(
    [
        ("contig", "<u4"),
        ("start", "<u4"),
        ("end", "<u4"),
        ("valid", "<u4"),
        ("minimum", "<f4"),
        ("maximum", "<f4"),
        ("sum", "<f4"),
        ("square", "<f4"),
    ]
)

NODE_ITEMS = 256
"""Largest number of items of a tree's node."""


def contig_dtypes(key_size: int) -> tuple[np.dtype, np.dtype]:
    """Return the types of the leaf and branch items of a contig tree whose names have `key_size` bytes."""
    leaf = np.dtype([("name", f"V{key_size}"), ("number", "<u4"), ("length", "<u4")])
    return leaf, np.dtype([("name", f"V{key_size}"), ("offset", "<u8")])


def write_contig_tree(file: BinaryIO, lengths: Sequence[tuple[str, int]]) -> None:
    """Write the tree of contigs at the end of a file. Contigs are numbered in their order, and sorted by name."""
    names = [name.encode("utf-8", "surrogateescape") for name, _ in lengths]
    leaf, branch = contig_dtypes(max(map(len, names)))
    items = np.zeros(len(names), dtype=leaf)
    order = sorted(range(len(names)), key=names.__getitem__)
    items["name"] = np.array([names[number] for number in order], dtype=f"S{leaf['name'].itemsize}").view(
        leaf["name"]
    )
    items["number"] = order
    items["length"] = [lengths[number][1] for number in order]
    file.write(
        CONTIG_TREE_HEADER.pack(CONTIG_TREE_MAGIC, NODE_ITEMS, leaf["name"].itemsize, 8, len(items), 0)
    )

    def parents(children: np.ndarray, first: np.ndarray, _last: np.ndarray) -> np.ndarray:
        made = np.zeros(len(first), dtype=branch)
        made["name"] = children["name"][first]
        return made

    _write_tree(file, items, parents)


def write_index(file: BinaryIO, blocks: np.ndarray, items_per_block: int) -> None:
    """Write the index of data blocks at the end of a file.

    Parameters
    ----------
    file : file object
        Open for writing in binary mode.
    blocks : numpy.ndarray
        `LEAF_DTYPE`, shape (n,), in the order of contig and start, not overlapping.
    items_per_block : int
        Largest number of entries of a block.
    """
    bounds = [0, 0, 0, 0]
    if len(blocks):
        bounds = [*blocks["bounds"][0, :2].tolist(), *blocks["bounds"][-1, 2:].tolist()]
    file.write(
        INDEX_HEADER.pack(
            INDEX_MAGIC, NODE_ITEMS, len(blocks), *bounds, file.seek(0, SEEK_CUR), items_per_block, 0
        )
    )

    def parents(children: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        made = np.zeros(len(first), dtype=BRANCH_DTYPE)
        made["bounds"][:, :2] = children["bounds"][first, :2]
        made["bounds"][:, 2:] = children["bounds"][last, 2:]
        return made

    _write_tree(file, blocks, parents)


def _write_tree(
    file: BinaryIO, leaves: np.ndarray, parents: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
) -> None:
    """Write a tree from its root down; `parents` makes one branch item for the first and last child of each node."""
    levels = [leaves]
    while len(levels[-1]) > NODE_ITEMS:
        first = np.arange(0, len(levels[-1]), NODE_ITEMS)
        last = np.minimum(first + NODE_ITEMS, len(levels[-1])) - 1
        levels.append(parents(levels[-1], first, last))
    offset = file.seek(0, SEEK_CUR)
    for depth in range(len(levels) - 1, -1, -1):
        items = levels[depth]
        starts = range(0, max(1, len(items)), NODE_ITEMS)
        offset += NODE.size * len(starts) + items.nbytes
        if depth:
            node_size = NODE.size + NODE_ITEMS * levels[depth - 1].itemsize
            items["offset"] = offset + node_size * np.arange(len(items), dtype=np.uint64)
        for start in starts:
            node = items[start : start + NODE_ITEMS]
            file.write(NODE.pack(not depth, 0, len(node)) + node.tobytes())
