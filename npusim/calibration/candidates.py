"""Measurements that could be made: kernels of the registry at sizes that decide one number or another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from npusim.errors import NpusimError
from npusim.measurements.rows import Measurement
from npusim.registry import Registry
from npusim.settings import MachineSettings
from npusim.validation.predict import Case, case

SHAPES: tuple[dict[str, Any], ...] = (
    {"kernel": "empty", "variant": "plain"},
    {"kernel": "copy-gm-l1", "variant": "plain", "m": 12288, "n": 12288, "tile_m": 64, "tile_n": 64},
    {"kernel": "copy-gm-l1", "variant": "plain", "m": 12288, "n": 12288, "tile_m": 64, "tile_n": 1024},
    {"kernel": "copy-gm-ub", "variant": "plain", "m": 12288, "n": 12288, "tile_m": 1, "tile_n": 64},
    {"kernel": "copy-gm-ub", "variant": "plain", "m": 12288, "n": 12288, "tile_m": 64, "tile_n": 1024},
    {"kernel": "add", "variant": "case-1", "m": 8192, "n": 8192},
    {"kernel": "add", "variant": "case-4", "m": 8192, "n": 8192},
    {"kernel": "matmul", "variant": "basic-1", "m": 8192, "n": 8192, "k": 8192},
    {"kernel": "matmul", "variant": "case-1", "m": 1024, "n": 1024, "k": 1024},
    *(
        {"kernel": "tri-inverse", "algorithm": "mxr", "variant": "published", "chunk": n, "matrices": count,
         "out_dtype": out, "l2": "warm"}
        for n, count, out in ((16, 80, "fp32"), (16, 1024, "fp32"), (64, 320, "fp32"), (128, 1024, "fp16"))
    ),
    {"kernel": "tri-inverse", "algorithm": "column-sweep", "variant": "tcuscan", "chunk": 64, "matrices": 4},
    *(
        {"kernel": f"gdn-{stage}", "variant": "published", "chunk": 128, "batch": 4, "seq_len": 4096,
         "heads": 16, "key_heads": 16, "head_dim": 128}
        for stage in ("cumsum", "kkt", "wy", "state", "output")
    ),
    *(
        {"kernel": "micro", "algorithm": name, "variant": variant, "m": 10000}
        for name, variant in (
            ("cross-core-flags", "bare"), ("cross-core-flags", "tile"), ("vector-scalar", None),
            ("flags", None), ("fractal-copy", None), ("fractal-exit", None), ("store-rows", "dense"),
            ("store-rows", "strided"), ("dependent-add", None),
        )
    ),
)  # fmt: skip
"""what can be measured, without device"""


def candidates(profiles: Sequence[str], registry: Registry) -> list[Case]:
    """Every one of them that the profiles can run, on each."""
    found = []
    for profile in profiles:
        settings = MachineSettings(profile=profile)
        for shape in SHAPES:
            row = Measurement.model_validate(
                {"dtype": "fp16", "clock": "task_duration", "time_us": 1.0, "device": profile, **shape}
            )
            try:
                one = case(row, registry, settings)
                one.work.build(registry)
            except NpusimError:
                continue  # this machine cannot run it
            found.append(one)
    return found
