"""Heads that turn token states into logits; every family can carry each of them."""
