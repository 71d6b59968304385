"""Output for people: bundles for genome browsers with an HTML report, the viewer, and tables and plots of `evaluate`.

Tracks are computed elsewhere; modules here read them.
"""
