"""Accuracy on pictures with known content, through the live path's own prepare and decode."""
