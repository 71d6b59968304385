"""Scored alleles as a Parquet table: one row per allele, typed columns, sorted by position within contigs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zflipon.errors import MissingExtraError
from zflipon.workflows.variants.fields import Scores, output_fields, table_columns
from zflipon.workflows.variants.vcf import VcfRecord

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_GROUP = 1 << 14
"""Rows of one row group: what a look-up reads at once."""


def require_pyarrow() -> None:
    """Raise `MissingExtraError` if pyarrow is not installed."""
    if find_spec("pyarrow") is None:
        raise MissingExtraError("a Parquet table", "pyarrow", "parquet")


@contextmanager
def open_parquet(
    part: Path, metadata: Mapping[str, object], with_genes: bool = False
) -> Iterator[Callable[[VcfRecord, Sequence[Scores]], None]]:
    """Open a Parquet file; yield a function that writes a record with the scores of its alleles.

    Parameters
    ----------
    part : Path
    metadata : mapping
        Written as the file's key-value metadata.
    with_genes : bool
        Whether the columns of an annotation follow the scores.
    """
    require_pyarrow()
    import pyarrow as pa
    from pyarrow import parquet

    schema = _schema({name: str(value) for name, value in metadata.items()}, with_genes)
    rows: list[tuple] = []
    with parquet.ParquetWriter(str(part), schema, compression="zstd") as writer:

        def flush() -> None:
            columns = zip(*rows, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_table(pa.table(arrays, schema=schema))
            rows.clear()

        def write(record: VcfRecord, scores: Sequence[Scores]) -> None:
            contig, _, name, ref = record.columns[:4]
            for alt, values in zip(record.alts, scores, strict=True):
                rows.append((contig, record.position, None if name == "." else name, ref, alt, *values))
            if len(rows) >= ROWS_PER_GROUP:
                flush()

        yield write
        if rows:
            flush()


def read_metadata(path: Path) -> dict[str, str]:
    """Return the key-value metadata of a Parquet file."""
    require_pyarrow()
    from pyarrow import parquet

    metadata: Any = parquet.read_schema(path).metadata or {}
    return {key.decode(): value.decode() for key, value in metadata.items()}


def _schema(metadata: Mapping[str, str], with_genes: bool) -> pa.Schema:
    import pyarrow as pa

    types = {"Float": pa.float64(), "Integer": pa.int64(), "String": pa.string()}
    kinds = [
        "String",
        "Integer",
        "String",
        "String",
        "String",
        *(field.kind for field in output_fields(with_genes)),
    ]
    columns = zip(table_columns(with_genes), kinds, strict=True)
    fields = [pa.field(name, types[kind]) for name, kind in columns]
    return pa.schema(fields, metadata=dict(metadata))
