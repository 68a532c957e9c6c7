"""Which measured rows tell something of the profiles that are fitted."""

from __future__ import annotations

from collections.abc import Sequence

from npusim.errors import NpusimError
from npusim.lower import lower
from npusim.measurements.rows import Reading
from npusim.registry import Registry
from npusim.validation.predict import Case, is_idle
from npusim.validation.select import Refused, select_rows
from npusim.validation.validate import apart_of


def fitting_rows(
    reading: Reading, profiles: Sequence[str], registry: Registry
) -> tuple[list[Case], list[Refused]]:
    """Each row on the first of the profiles that describes its device, whether or not it can run there; and
    the others, with the reason.

    Launches alone and kernels of unknown structure are not fitted to, nor what a machine cannot run. Rows
    whose source does not name the device are: they are of the same core.
    """
    found, useful, refused = select_rows(reading, registry, profiles), list[Case](), list[Refused]()
    for one in found.cases:
        if reason := _useless(one, registry):
            refused.append(Refused(one.row.place, one.row.kernel, reason))
        else:
            useful.append(one)
    return useful, [*found.refused, *refused]


def _useless(one: Case, registry: Registry) -> str:
    """Why a row is not fitted to, or ''."""
    try:
        kernel = one.work.build(registry)
        if apart := apart_of(one.row, is_idle(kernel), registry, unnamed=False):
            return f"not fitted to: {apart}"
        lower(kernel, one.settings.machine(), l2=one.row.l2)
    except NpusimError as error:
        return str(error)
    return ""
