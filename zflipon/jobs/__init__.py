"""The lifecycle of long runs: lock, journal, resume, record."""
