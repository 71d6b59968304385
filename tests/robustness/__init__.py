"""The robustness harness: damaged inputs, kills, failing writes, hostile names; see ``benchmarks/robustness.py``."""
