"""Z-HUNT and the screen built on it."""
