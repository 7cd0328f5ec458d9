"""Weights as records: where they come from, what they may be used for, and how they become tensors by spec path."""
