"""The notebook in examples/ runs on the demo genome and stores no outputs."""

import json
import shutil
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOK = json.loads((EXAMPLES / "tour.ipynb").read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_stores_no_outputs():
    for cell in NOTEBOOK["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_the_code_cells_run_in_their_order(tmp_path, monkeypatch, capsys):
    (tmp_path / "examples").mkdir()
    shutil.copy(EXAMPLES / "demo.fa", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    variables: dict = {"__name__": "notebook"}
    for number, source in enumerate(CODE, 1):
        exec(compile(source, f"cell {number}", "exec"), variables)
    assert variables["record"]["tracks"]["calls"] == len(variables["calls"]) > 100
    assert variables["propensity"].shape == variables["probability"].shape
    assert variables["propensity"].max() > 0.9
    assert variables["inside"].mean() > 0.9
    assert variables["enriched"][0].kmer == "CGCGCG" or variables["enriched"][0].kmer == "GCGCGC"
    assert "observed" in capsys.readouterr().out
