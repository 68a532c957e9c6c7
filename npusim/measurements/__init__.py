"""Measured timings: what was run, how long it took on which clock, and where that is written."""
