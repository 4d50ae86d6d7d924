"""Trained weights: what there is, where it comes from, and how it becomes a file that an engine can run."""
