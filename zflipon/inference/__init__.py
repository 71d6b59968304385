"""Inference with a trained model: settings, batching, execution, decoding, and the scan of a genome."""
