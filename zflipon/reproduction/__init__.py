"""Reproduction of the tables and sections of Libina & Skvortsova (2025), the paper that zflipon implements.

`zflipon.reproduction.catalogue` lists them, `zflipon.reproduction.reproduce` runs them.
"""
