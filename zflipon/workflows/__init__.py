"""One module per command: the work behind the command line."""
