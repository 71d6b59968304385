"""Snakemake wrapper of ``zflipon annotate``."""

from shlex import quote

from snakemake.shell import shell

# pyright: reportUndefinedVariable=false
# ruff: noqa: F821
outputs = " ".join(f"-o {quote(path)}" for path in snakemake.output)
part = snakemake.params.get("part", "")
part = f"--part {quote(part)}" if part else ""
features = snakemake.input.get("features", "")
features = f"--features {quote(features)}" if features else ""
extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=True, stderr=True)

shell(
    "zflipon annotate {snakemake.input.genome:q} {outputs} {part} {features} --threads {snakemake.threads} --force "
    "{extra} {log}"
)
