"""The parts of the page Calibrate, and their callbacks."""
