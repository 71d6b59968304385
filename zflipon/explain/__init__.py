"""Which sequence made the call: tokens, attributions, rankings, k-mers."""
