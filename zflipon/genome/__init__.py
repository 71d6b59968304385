"""FASTA files, intervals, windows and shards."""
