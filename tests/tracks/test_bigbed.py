"""bigBed of calls: read by a second library, declared columns, BED9 with extra columns, incomplete files."""

import re
import struct

import pyBigWig
import pytest
from report_files import CALLS, LENGTHS, write_run

from zflipon.errors import OutputError
from zflipon.tracks import bigbed
from zflipon.tracks.call_files import read_calls


def test_calls_are_read_by_a_second_library(tmp_path):
    bed = write_run(tmp_path)[1]
    assert bigbed.write_calls(tmp_path / "z.bb", LENGTHS, read_calls(bed, LENGTHS), True) == "9 +"
    with pyBigWig.open(str(tmp_path / "z.bb")) as file:
        assert file.isBigBed()
        assert list(file.chroms().items()) == [(name, LENGTHS[name]) for name in sorted(CALLS)]
        entries = {contig: file.entries(contig, 0, LENGTHS[contig]) for contig in CALLS}
        declaration = file.SQL().decode()
    assert {name: [row[:2] for row in rows] for name, rows in entries.items()} == CALLS
    lines = [line.split("\t") for line in bed.read_text().splitlines()]
    rows = [[name, str(s), str(e), *rest.split("\t")] for name in CALLS for s, e, rest in entries[name]]
    assert rows == lines
    assert declaration == (tmp_path / "z.as").read_text()
    fields = re.findall(r"^\s+[\w\[\]]+ (\w+);", declaration, re.MULTILINE)
    assert len(fields) == len(lines[0]) == 11
    assert fields[:3] == ["chrom", "chromStart", "chromEnd"]


@pytest.mark.parametrize(("scored", "columns"), [(True, (11, 9)), (False, (9, 9))])
def test_the_header_declares_nine_bed_columns(tmp_path, scored, columns):
    calls = read_calls(write_run(tmp_path)[1], LENGTHS)
    bigbed.write_calls(tmp_path / "z.bb", LENGTHS, calls, scored)
    assert struct.unpack("<HH", (tmp_path / "z.bb").read_bytes()[32:36]) == columns


def test_an_incomplete_bigbed_is_refused(tmp_path):
    calls = read_calls(write_run(tmp_path)[1], LENGTHS)
    with pytest.raises(OutputError, match="incomplete"):
        bigbed.write_calls(tmp_path / "z.bb", {"chr1": 9000}, {"chr1": calls["chr1"][::-1]}, True)
