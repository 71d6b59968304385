"""Snakemake wrapper of ``zflipon merge``."""

from shlex import quote

from snakemake.shell import shell

# pyright: reportUndefinedVariable=false
# ruff: noqa: F821
outputs = " ".join(f"-o {quote(path)}" for path in snakemake.output)
extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=True, stderr=True)

shell("zflipon merge {snakemake.input:q} {outputs} --force {extra} {log}")
