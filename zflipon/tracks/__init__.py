"""Readers and writers of genome tracks."""
