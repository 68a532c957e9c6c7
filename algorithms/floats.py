"""Number formats of kernels with vector work: which they take, and the wider one they work in."""

from __future__ import annotations

from npusim.builder import Unsupported

FLOATS = ("fp64", "fp32", "fp16", "bf16")


def check_floats(name: str, dtype: str) -> None:
    """Unsupported for operands that kernel `name` cannot compute on."""
    if dtype not in FLOATS:
        raise Unsupported(f"--dtype: {name} computes on {', '.join(FLOATS)}, not on {dtype}")


def working_of(dtype: str) -> str:
    """What the vector cores compute in."""
    return "fp64" if dtype == "fp64" else "fp32"
