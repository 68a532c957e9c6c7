"""Measured rows predicted, and how far off."""
