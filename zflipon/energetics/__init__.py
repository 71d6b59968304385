"""Energetics of Z-DNA: exact Z-HUNT, the rule of published maps, and a screen of windows."""
