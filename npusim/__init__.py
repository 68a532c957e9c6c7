"""npusim: how long a tile algorithm takes on an NPU, why, and how wrong its result is."""

__version__ = "0.1.0"
