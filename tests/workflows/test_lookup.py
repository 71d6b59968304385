"""Tables of scores in which alleles are looked up: damage is one clear error, wherever it is noticed."""

import pytest

from zflipon.errors import InputError
from zflipon.workflows.variants.lookup import ScoreTable


@pytest.mark.parametrize(
    "error",
    [
        OSError("Corrupt ZSTD compressed data.\nsecond line"),
        NotImplementedError("seek not implemented in files compressed by method 1"),  # pysam raises it
        ValueError("zip() argument 2 is longer than argument 1"),
        IndexError("list index out of range"),
        RecursionError(),
    ],
)
def test_rows_that_cannot_be_read_are_one_clear_error(tmp_path, error):
    class DamagedTable(ScoreTable):
        def close(self):
            pass

        def row_contigs(self):
            return ["chr1"]

        def rows_at(self, _contig, _start):
            raise error

    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with DamagedTable(tmp_path / "t.parquet") as table:
        table.names = {"chr1": "chr1"}
        with pytest.raises(
            InputError, match=r"t\.parquet: damaged at chr1:8 \(.+\); write it again"
        ) as caught:
            table.look_up([("chr1", 7, "A", "C")])
    assert "\n" not in str(caught.value)
