"""Check that two versions of zflipon write the same bytes.

    python benchmarks/same_output.py record before.json --genome GENOME.fa.gz [--region chr22_50M:1-500,000]
    python benchmarks/same_output.py compare before.json --genome GENOME.fa.gz [--region chr22_50M:1-500,000]

`record` annotates the genome with each model and stores the SHA-256 of every output; run it with the older version.
`compare` does the same with the version that is installed now, prints one line per output and exits with status 1 if
any output differs.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click

MODELS = ("zhunt", "compact", "compact-omics")
SUFFIXES = (".bw", ".bed", ".bedgraph")


def digests(genome: str, models: tuple[str, ...], regions: tuple[str, ...]) -> dict[str, str]:
    """Annotate with each model and return the SHA-256 of each output by name."""
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            outputs = [Path(folder) / f"{model}{suffix}" for suffix in SUFFIXES]
            command = [
                sys.executable,
                "-m",
                "zflipon",
                "annotate",
                genome,
                "-m",
                model,
                "-q",
                "--device",
                "cpu",
            ]
            command += [word for output in outputs for word in ("-o", str(output))]
            command += [word for region in regions for word in ("--region", region)]
            if model == "compact-omics":
                command += ["--missing-features", "zero"]
            subprocess.run(command, check=True)
            result |= {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in outputs}
    return result


@click.command()
@click.argument("action", type=click.Choice(["record", "compare"]))
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--genome", required=True, help="FASTA to annotate.")
@click.option("--region", "regions", multiple=True, help="Region to annotate; repeatable.  [default: all]")
@click.option(
    "--model", "models", multiple=True, default=MODELS, show_default=True, help="Model; repeatable."
)
def main(action: str, file: Path, genome: str, regions: tuple[str, ...], models: tuple[str, ...]) -> None:
    """Record the digests of all outputs in FILE, or compare them with those in FILE."""
    now = digests(genome, models, regions)
    if action == "record":
        file.write_text(json.dumps(now, indent=1) + "\n")
        return
    before = json.loads(file.read_text())
    for name, digest in now.items():
        print(f"{name}: {'same' if digest == before.get(name) else 'DIFFERENT'}")
    sys.exit(any(digest != before.get(name) for name, digest in now.items()))


if __name__ == "__main__":
    main()
