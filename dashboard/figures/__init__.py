"""Figures: pure functions from the service's answers and a theme to plotly's own JSON.

They are plain mappings: to make them of plotly's objects takes longer than to time a kernel, and a test has
plotly validate them.
"""
