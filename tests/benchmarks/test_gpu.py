"""The benchmark of GPUs runs on a CPU, saves its figures, and survives parts that fail."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from zflipon.models import create, save

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def gpu():
    """Import the script as Python does when it is run: its folder is on the path."""
    sys.path.insert(0, str(FOLDER))
    try:
        import gpu

        yield gpu
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def large(tmp_path_factory, tokenizer):
    """Return the folder of a small model with a token head."""
    torch.manual_seed(1)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    checkpoint = create("dnabert2", "token", tokenizer, **shape)
    folder = tmp_path_factory.mktemp("large") / "large"
    save(replace(checkpoint, metadata=replace(checkpoint.metadata, window=128, margin=16)), folder)
    return folder


def options(gpu, tmp_path, tiny_checkpoint, large, *parts):
    arguments = ["--device", "cpu", "--quick", "--same-process", "--output", str(tmp_path / "gpu.json")]
    arguments += ["--model", str(tiny_checkpoint), "--large", str(large)]
    return [*arguments, "--parts", *(parts or [part for part in gpu.PARTS if part != "doctor"])]


def read(tmp_path):
    return json.loads((tmp_path / "gpu.json").read_text())["parts"]


def test_the_lists_of_parts_agree(gpu):
    import gpu_parts

    assert tuple(gpu_parts.PARTS) == gpu.PARTS


def test_all_parts_run_on_a_cpu(gpu, tmp_path, tiny_checkpoint, large, capsys):
    status = gpu.main(options(gpu, tmp_path, tiny_checkpoint, large))
    table, parts = capsys.readouterr().out, read(tmp_path)
    assert status == 0, table
    assert all(gpu.FAILURE not in figures for figures in parts.values())
    assert parts["same_bytes"]["float32, two runs"] is True
    assert parts["same_bytes"]["float32, another batch size"] is True
    assert parts["early_exit"]["float32, bases written differently"] == 0
    assert parts["early_exit"]["float32, largest probability above its bound"] < 1e-5
    assert parts["speed"][f"{tiny_checkpoint}, FASTA to bigWig, Mb/s"] > 0
    assert 0 < parts["speed"][f"{large}, share of the matrix rate"] < 1
    assert parts["host_waits"][f"{large}, waits per batch"] is None  # a CPU has no queue to wait for
    for name, figures in parts.items():
        for figure in figures:
            assert f"| {name} | {figure.replace('|', '/')} |" in table


def test_a_part_that_fails_is_reported_and_the_others_run(
    gpu, tmp_path, tiny_checkpoint, large, monkeypatch, capsys
):
    import gpu_parts

    def broken(_setup):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore")

    monkeypatch.setitem(gpu_parts.PARTS, "kernels", broken)
    monkeypatch.setitem(
        gpu_parts.PARTS, "early_exit", lambda _setup: {"bfloat16, bases written differently": 3}
    )
    arguments = options(gpu, tmp_path, tiny_checkpoint, large, "kernels", "early_exit", "environment")
    assert gpu.main(arguments) == 1
    parts = read(tmp_path)
    assert (
        parts["kernels"][gpu.FAILURE] == "RuntimeError: CUDA error: an illegal memory access was encountered"
    )
    assert parts["environment"]["torch"] == torch.__version__
    assert (
        "| early_exit | bfloat16, bases written differently | 3 | below the goal |" in capsys.readouterr().out
    )


def test_a_part_that_hangs_is_stopped_and_one_that_crashes_is_reported(gpu, tmp_path, monkeypatch):
    settings = gpu.parse(["--quick"])
    settings.scratch = tmp_path
    for code, failure in (
        ("import time; time.sleep(60)", "stopped after 0 s"),
        ("import os; os.abort()", "exit status -6"),
        ("raise SystemExit('CUDA driver is too old')", "CUDA driver is too old"),
    ):
        script = tmp_path / "part.py"
        script.write_text(code)
        monkeypatch.setattr(gpu, "__file__", str(script))
        limit = 0.1 if "sleep" in code else 60
        assert gpu.run_in_process(settings, "speed", limit) == {gpu.FAILURE: failure}


@pytest.mark.parametrize(
    ("part", "name", "value", "expected"),
    [
        ("speed", "compact, FASTA to bigWig, Mb/s", 24.9, "below the goal"),
        ("speed", "compact, FASTA to bigWig, Mb/s", 25.1, "ok"),
        ("speed", "dnabert2-117m, share of the matrix rate", 0.44, "below the goal"),
        ("speed", "compact, share of the matrix rate", 0.01, ""),
        ("same_bytes", "bfloat16, two runs", False, "below the goal"),
        ("same_bytes", "bfloat16, another batch size", False, ""),
        ("doctor", "cuda:0 bfloat16, agrees", True, "ok"),
    ],
)
def test_figures_are_compared_with_their_goals(gpu, part, name, value, expected):
    assert gpu.verdict(part, name, value, gpu.parse([])) == expected
