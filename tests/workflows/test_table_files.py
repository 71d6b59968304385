"""Tables in all formats: missing packages, limits of spreadsheets, text that is no formula."""

import pandas as pd
import pytest

from zflipon.errors import MissingExtraError, OutputError
from zflipon.workflows import table_files


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"needs bioframe.*pip install 'zflipon\[genes\]'"):
        table_files.require_gene_packages()
    with pytest.raises(MissingExtraError, match="needs openpyxl"):
        table_files.check_table_paths(tmp_path / "t.xlsx", ("calls",), force=False)


def test_text_of_a_spreadsheet_is_no_formula(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    table = pd.DataFrame({"gene": ["=1+1", "@x\x07"], "score": [0.5, None]})
    table_files.write_tables(tmp_path / "t.xlsx", {"calls": table}, {"calls": "=2+2", "gone": None})
    book = openpyxl.load_workbook(tmp_path / "t.xlsx")
    assert [[cell.value for cell in row] for row in book["calls"]] == [
        ["gene", "score"], ["=1+1", 0.5], ["@x\\x07", None],
    ]  # fmt: skip
    assert book["calls"]["A2"].data_type == "s"
    assert [[cell.value for cell in row] for row in book["settings"]] == [["calls", "=2+2"]]


def test_a_text_that_no_cell_holds_is_refused(tmp_path):
    table = pd.DataFrame({"sequence": ["A" * 40_000]})
    with pytest.raises(OutputError, match=r"40,000 letters; a cell holds 32,767\. Write \.tsv"):
        table_files.write_tables(tmp_path / "t.xlsx", {"calls": table}, {})
    assert not list(tmp_path.iterdir())


def test_each_table_has_its_file(tmp_path):
    paths = table_files.table_paths(tmp_path / "my.z.tsv.gz", ("calls", "genes"))
    assert [path.name for path in paths.values()] == ["my.z.tsv.gz", "my.z.genes.tsv.gz"]
    with pytest.raises(OutputError, match="unknown table format"):
        table_files.table_paths(tmp_path / "t.csv", ("calls",))
