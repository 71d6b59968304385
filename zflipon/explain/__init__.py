"""Which sequence made the call: a module for each table that interprets a model, and how tables are written and read.

The questions are those of Libina & Skvortsova (2025), sections 5.7 and 5.8.
"""
