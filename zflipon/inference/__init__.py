"""Devices, batching and genome-scale inference."""
