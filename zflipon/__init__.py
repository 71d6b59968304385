"""zflipon finds Z-DNA in whole genomes with DNA language models."""

__version__ = "0.1.0"
