"""Units of a profile's numbers: their fields' names end in them."""

from __future__ import annotations

UNITS = {
    "_ghz": "GHz", "_us": "us", "gb_per_s": "GB/s", "bytes_per_cycle": "B/cycle", "_cycles": "cycles",
    "cycles_per_repeat": "cycles", "cycles_per_repeat_16bit": "cycles",
}  # fmt: skip
"""units by how names of fields end; sizes besides"""
FLAGS = "core.flags.pairs."
"""the flags between two units, whose last step names these"""


def unit_of(field: str) -> str:
    """The unit of the number at a dotted path, '' for a count and a share."""
    if field.startswith(FLAGS):
        return "cycles"
    if field.endswith("bytes"):
        return "B"
    return next((unit for end, unit in UNITS.items() if field.endswith(end)), "")
