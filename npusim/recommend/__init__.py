"""Which inverse to use: the fastest that is exact enough, on a machine, for a layer, in a number format."""
