"""Failing writes, hostile pickles, hostile names, and hostile requests to the server of ``zflipon view``."""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import resource
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from robustness.inputs import build_inputs
from robustness.reports import Report
from robustness.runner import Outcome, run_command

Show = Callable[[str], object]

_ANNOTATE = ("annotate", "g.fa", "-m", "zhunt", "-t", "1", "-q")
WRITERS: dict[str, tuple[tuple[str, ...], str]] = {
    **{
        f"annotate {name}": ((*_ANNOTATE, "-o", name), name)
        for name in ("o.bw", "o.bedgraph", "o.bdg.gz", "o.bed", "o.bed.gz")
    },
    **{
        f"variants {name}": (("variants", "v.vcf", "-g", "g.fa", "-m", "zhunt", "-o", name, "-q"), name)
        for name in ("o.vcf", "o.vcf.gz", "o.bcf", "o.tsv")
    },
    "bundle": (("bundle", "z.bw", "--genome", "g.fa", "-o", "hub"), "hub"),
    "explain kmers": (
        ("explain", "kmers", "labels.bed", "--genome", "g.fa", "-k", "3", "-o", "o.csv"),
        "o.csv",
    ),
    "models convert": (("models", "convert", "tiny", "-o", "converted"), "converted"),
    "evaluate": (
        ("evaluate", "z.bw", "--labels", "labels.bed", "--genome", "g.fa", "--json", "o.json"),
        "o.json",
    ),
}
"""Name → command, and the file or folder that it writes."""

LIMITS = (0, 100, 1000, 4096, 10_000, 30_000, 100_000)
"""Limits of file size, in bytes."""

CODE = "import pathlib; pathlib.Path('executed').touch()"

NAMES = (
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "a\nhub evil", "a\rb", "\u202egnp.exe", "'\"><svg onload=alert(1)>", "{{7*7}}", "%s%n", "\x9b31m",
    "`id`", "$(id)",
)  # fmt: skip


class _Runs:
    def __init__(self, code: Callable, *arguments):
        self.code, self.arguments = code, arguments

    def __reduce__(self):
        return self.code, self.arguments


def limited_writes(limits: tuple[int, ...] = LIMITS, show: Show = lambda _: None) -> Iterator[Report]:
    """Let writes fail at a limit of file size: each command ends with one line and leaves nothing damaged."""
    with tempfile.TemporaryDirectory(prefix="limits") as root:
        clean = Path(root, "clean")
        clean.mkdir()
        build_inputs(clean)
        report = Report("limit of file size")
        for name, (command, output) in WRITERS.items():
            expected = _run(command, clean, Path(root, "case"), output)[1]
            for limit in limits:
                bounds = {resource.RLIMIT_FSIZE: limit}
                outcome, written, left = _run(command, clean, Path(root, "case"), output, bounds)
                _judge_write(report, f"{name}, {limit} bytes", outcome, written, left, expected, show)
        yield report


def full_disk(sizes: tuple[int, ...] = (256, 320, 384, 512), show: Show = lambda _: None) -> Iterator[Report]:
    """Run each command on a small disk in memory, if this user may mount one."""
    report = Report("full disk")
    with tempfile.TemporaryDirectory(prefix="disk") as root:
        clean = Path(root, "clean")
        clean.mkdir()
        build_inputs(clean)
        mounted = Path(root, "disk")
        mounted.mkdir()
        for name, (command, output) in WRITERS.items():
            expected = _run(command, clean, Path(root, "case"), output)[1]
            for size in sizes:
                mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(mounted)]
                if subprocess.run(mount, capture_output=True, check=False).returncode:
                    report.skipped = "this user may not mount a disk"
                    yield report
                    return
                try:
                    outcome, written, left = _run(command, clean, mounted / "case", output)
                except OSError:
                    outcome = None  # the inputs themselves do not fit
                finally:
                    subprocess.run(["umount", str(mounted)], check=True)
                if outcome is not None:
                    _judge_write(report, f"{name}, {size} kB", outcome, written, left, expected, show)
    yield report


def _run(
    command, clean: Path, folder: Path, output: str, limits=None
) -> tuple[Outcome, bytes | None, list[str]]:
    shutil.copytree(
        clean, folder, ignore=shutil.ignore_patterns("*.unfinished", "base", "lora", "omics", "pickled")
    )
    before = {path.name for path in folder.iterdir()}
    outcome = run_command(command, folder, limits)
    path = folder / output
    written = path.read_bytes() if path.is_file() else b"folder" if path.is_dir() else None
    expected = {output, f"{output}.json", f"{output}.tbi", f"{output}.csi", f"{output}.unfinished"}
    left = sorted({each.name for each in folder.iterdir()} - before - expected)
    shutil.rmtree(folder)
    return outcome, written, left


def _judge_write(report: Report, case: str, outcome: Outcome, written, left, expected, show: Show) -> None:
    report.tried += 1
    fault = outcome.fault
    if not fault and outcome.status == 0 and written != expected:
        fault = "silent: damaged output with status 0"
    if not fault and outcome.status and written not in (None, expected):
        fault = "output: damaged output"
    if not fault and left:
        fault = f"leftover: {left}"
    if fault:
        report.add_fault(fault, case)
        show(f"  {case}: {fault} [{outcome.status}] {outcome.last_line[:200]}")
    elif outcome.status:
        report.refused += 1
    else:
        report.same += 1


def pickles(show: Show = lambda _: None) -> Iterator[Report]:
    """Put code into each file that is a pickle: it is refused and not executed."""
    import torch

    payloads: list[object] = [
        _Runs(exec, CODE), _Runs(eval, f"exec({CODE!r})"), _Runs(os.system, "touch executed"),
        _Runs(subprocess.getoutput, "touch executed"), _Runs(os.rename, "g.fa", "executed"), _Runs(open,
        "executed", "w"),
        _Runs(getattr, "abc", "upper"), _Runs(__import__, "antigravity"), {"weights": _Runs(exec, CODE)},
        [_Runs(exec, CODE)],
    ]  # fmt: skip
    report = Report("code in pickles")
    with tempfile.TemporaryDirectory(prefix="pickles") as root:
        clean = Path(root, "clean")
        clean.mkdir()
        build_inputs(clean)
        (clean / "weights").mkdir()
        commands = [
            (
                "pickled/pytorch_model.bin",
                ("annotate", "g.fa", "-m", "pickled", "-o", "o.bed", "--device", "cpu"),
            ),
            ("pickled/pytorch_model.bin", ("models", "convert", "pickled", "-o", "converted")),
            ("pickled/pytorch_model.bin", ("models", "show", "pickled")),
            ("weights/w.pt", ("models", "import", "weights/w.pt", "--base", "base", "-o", "imported")),
            ("lora/adapter_model.bin", ("annotate", "g.fa", "-m", "lora", "-o", "o.bed", "--device", "cpu")),
        ]
        for file, command in commands:
            for number, payload in enumerate(payloads):
                for packed in (True, False):
                    folder = Path(root, "case")
                    shutil.copytree(clean, folder)
                    (folder / "lora" / "adapter_model.safetensors").unlink()
                    if packed:
                        torch.save(payload, folder / file)
                    else:
                        (folder / file).write_bytes(pickle.dumps(payload, protocol=2))
                    outcome = run_command(command, folder)
                    fault = outcome.fault or ("executed" if (folder / "executed").exists() else "")
                    if not fault and outcome.status == 0 and command[1] != "show":
                        fault = "silent: accepted"
                    report.tried += 1
                    if fault:
                        report.add_fault(fault, f"{file} {number}")
                        show(f"  {file}, payload {number}, {command[0]}: {fault} {outcome.last_line[:200]}")
                    else:
                        report.refused += 1
                    shutil.rmtree(folder)
    yield report


def injections(show: Show = lambda _: None) -> Iterator[Report]:
    """Put hostile names into every place that is printed or becomes a page: they come out as text."""
    report = Report("hostile names")
    with tempfile.TemporaryDirectory(prefix="names") as root:
        clean = Path(root, "clean")
        clean.mkdir()
        build_inputs(clean)
        for name in NAMES:
            for place, (change, command) in _places(name).items():
                folder = Path(root, "case")
                shutil.copytree(clean, folder)
                change(folder)
                outcome = run_command(command, folder)
                fault = outcome.fault or _markup(folder, outcome, name)
                report.tried += 1
                if fault:
                    report.add_fault(fault, place)
                    show(f"  {place}, {name!r}: {fault} {outcome.last_line[:200]!r}")
                elif outcome.status:
                    report.refused += 1
                else:
                    report.other += 1
                shutil.rmtree(folder)
    yield report


def _places(name: str) -> dict[str, tuple[Callable[[Path], object], tuple[str, ...]]]:
    """Return place → a function that writes the name there, and a command that prints it."""

    path = name.replace("/", "_")

    def set_json(file: str, *keys: str) -> Callable[[Path], object]:
        def change(folder: Path) -> None:
            value = inner = json.loads((folder / file).read_text())
            for key in keys[:-1]:
                inner = inner.setdefault(key, {})
            inner[keys[-1]] = name
            (folder / file).write_text(json.dumps(value))

        return change

    def replace(file: str, old: str) -> Callable[[Path], object]:
        def change(folder: Path) -> None:
            text = (folder / file).read_text()
            (folder / file).write_text(text.replace(old, name), newline="")

        return change

    def copy(file: str) -> Callable[[Path], object]:
        def change(folder: Path) -> None:
            copy_any = shutil.copytree if (folder / file).is_dir() else shutil.copyfile
            copy_any(folder / file, folder / path)

        return change

    bundle = ("bundle", "z.bw", "z.bed", "--genome", "g.fa", "-o", "hub")
    labelled = ("--labels", "labels.bed", "--genome", "g.fa")
    variants = ("variants", "v.vcf", "-g", "g.fa", "-m", "zhunt", "-o", "o.tsv")
    adapters = "lora/adapter_config.json"
    omics = ("annotate", "g.fa", "-m", "omics", "--features", "t.tsv", "-o", "o.bed")
    return {
        "contig of a FASTA": (replace("g.fa", "chr3"), ("annotate", "g.fa", "-m", "zhunt", "-o", "o.bed")),
        "contig of a BED": (replace("labels.bed", "chr3"), ("evaluate", "z.bw", *labelled)),
        "contig of regions": (replace("r.bed", "chr2"), (*_ANNOTATE, "-o", "o.bed", "--regions", "r.bed")),
        "id of a variant": (replace("v.vcf", "rs1"), variants),
        "contig of a variant": (replace("v.vcf", "chr2"), variants),
        "token of a table": (replace("a.csv", "A,"), ("explain", "rank", "a.csv", "b.csv")),
        "name of a recipe": (replace("r.toml", "small"), ("train", "r.toml", "-o", "run", "--set",
        "stage.steps=0")),
        "key of a recipe": (replace("r.toml", "steps"), ("train", "r.toml", "-o", "run")),
        "name of a track": (replace("t.tsv", "first"), omics),
        "model of a sidecar": (set_json("z.bw.json", "model", "name"), bundle),
        "command of a sidecar": (set_json("z.bw.json", "command"), bundle),
        "genome of a sidecar": (set_json("z.bw.json", "genome"), bundle),
        "sidecar": (set_json("z.bw.json", "model", "name"), ("provenance", "z.bw")),
        "key of a sidecar": (set_json("z.bw.json", name, "name"), ("provenance", "z.bw")),
        "family of a model": (set_json("tiny/config.json", "model_type"), ("models", "show", "tiny")),
        "metadata of a model": (set_json("tiny/config.json", "zflipon", "name"), ("models", "show", "tiny",
        "--full")),
        "base of adapters": (set_json(adapters, "base_model_name_or_path"), ("models", "show", "lora")),
        "file": (copy("g.fa"), ("annotate", path, "-m", "zhunt", "-o", "o.bed")),
        "missing file": (lambda _: None, ("annotate", path, "-m", "zhunt", "-o", "o.bed")),
        "output": (lambda _: None, (*_ANNOTATE[:-1], "-o", f"{path}.bed")),
        "folder of a model": (copy("tiny"), ("models", "show", path)),
        "track file": (copy("z.bed"), ("evaluate", path, *labelled)),
        "option": (lambda _: None, (*_ANNOTATE, "-o", "o.bed", "--region", name)),
        "model": (lambda _: None, ("annotate", "g.fa", "-m", name, "-o", "o.bed")),
    }  # fmt: skip


def _markup(folder: Path, outcome: Outcome, name: str) -> str:
    """Return where a name came out as something other than text."""
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", outcome.stdout):
        return "escape: control characters on standard output"
    for page in folder.rglob("*.html"):
        if re.search(r"<script>alert|<img src=x|<svg onload", page.read_text()):
            return f"markup: in {page.name}"
    for hub in folder.rglob("hub.txt"):
        if re.search(r"^(hub evil|.*\r.*)$", hub.read_bytes().decode(), re.MULTILINE):
            return "markup: a stanza in hub.txt"
    return ""


def requests(cases: int = 300, seed: int = 0, show: Show = lambda _: None) -> Iterator[Report]:
    """Send hostile requests to the server: it serves the named files only, and still serves."""
    from serving import serving

    from zflipon.report.viewer.server import ADDRESS, ServedFile

    report, rng = Report("requests to the server"), random.Random(seed)
    with tempfile.TemporaryDirectory() as root:
        Path(root, "named.bin").write_bytes(b"named" * 100)
        Path(root, "secret.txt").write_bytes(b"SECRET")
        contents = {"/": ServedFile(b"page", "text/html"), "/data/0.bin": ServedFile(Path(root, "named.bin"))}
        with serving(contents, timeout=2.0) as server:
            for number in range(cases):
                answer = _send(ADDRESS, server.port, _request(rng, server.port))
                report.tried += 1
                plain = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: close\r\n\r\n"
                alive = _send(ADDRESS, server.port, plain.encode())
                fault = "secret: another file was served" if b"SECRET" in answer or b"root:" in answer else ""
                fault = fault or ("" if alive.endswith(b"page") else "hang: it no longer answers")
                if fault:
                    report.add_fault(fault, str(number))
                    show(f"  request {number}: {fault}")
                else:
                    report.refused += 1
    yield report


def _request(rng: random.Random, port: int) -> bytes:
    path = rng.choice((
        "/", "/data/0.bin", "/../secret.txt", "/data/../secret.txt", "/%2e%2e/secret.txt",
        "/data/..%2fsecret.txt", "//etc/passwd",
        "/etc/passwd", "http://evil/", "*", "/" + "a" * 70_000, "/\x00", "/data/0.bin?x=../secret.txt",
        "/..\\secret.txt", "secret.txt",
    ))  # fmt: skip
    method = rng.choice(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "TRACE", "get", "", "G" * 10_000))
    host = rng.choice(
        (f"127.0.0.1:{port}", "evil.example", "", f"localhost:{port}", f"127.0.0.1:{port}\r\nHost: evil")
    )
    header = rng.choice((
        "", "Range: bytes=0-99999999999999999999\r\n", "Range: bytes=-1,0-1\r\n", "Content-Length: -1\r\n",
        "Content-Length: 99\r\n",
        "Transfer-Encoding: chunked\r\n", "Range: bytes=a-b\r\n", "X: " + "y" * 70_000 + "\r\n",
        "X: 1\r\n" * 200, "Connection: keep-alive\r\n",
    ))  # fmt: skip
    version = rng.choice(("HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/9.9", "", "x"))
    request = f"{method} {path} {version}\r\nHost: {host}\r\n{header}\r\n".encode("latin-1", "replace")
    if rng.random() < 0.2:
        request = request[: rng.randrange(len(request))]
    return rng.randbytes(500) if rng.random() < 0.1 else request


def _send(address: str, port: int, request: bytes) -> bytes:
    parts = []
    try:
        with socket.create_connection((address, port), timeout=20) as client:
            client.settimeout(5)
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            while part := client.recv(65536):
                parts.append(part)
    except OSError:
        pass
    return b"".join(parts)
