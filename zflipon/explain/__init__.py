"""Which sequence made the call: tokens, attributions, rankings, k-mers, and all of it at one locus."""
