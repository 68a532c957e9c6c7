"""Many configurations of a kernel: timed, computed, and kept in a store that a killed sweep goes on from."""
