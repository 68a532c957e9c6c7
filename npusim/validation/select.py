"""Which rows are predicted on which profile, and what cannot be: nothing is dropped silently."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from npusim.errors import NpusimError, Unsupported
from npusim.measurements.rows import Measurement, Reading
from npusim.profiles import device_names, load_machine
from npusim.registry import Registry
from npusim.settings import MachineSettings
from npusim.validation.predict import Case, case


@dataclass(frozen=True)
class Refused:
    """A row that is not predicted, and why."""

    place: str
    kernel: str
    reason: str

    def to_json(self) -> dict[str, str]:
        return {"row": self.place, "kernel": self.kernel, "reason": self.reason}


@dataclass(frozen=True)
class Selection:
    """The rows that are predicted, and the others. `unnamed`: places of rows whose device the source does not
    name, and another stands for."""

    cases: list[Case]
    refused: list[Refused]
    unnamed: frozenset[str] = frozenset()


def select_rows(
    reading: Reading,
    registry: Registry,
    profiles: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Selection:
    """Each row on the profile of its device; with `profiles` on the first of them that describes it.

    A row that names no device is taken to be of the first.
    """
    names = {profile: {name.casefold() for name in device_names(profile)} for profile in profiles}
    cases: list[Case] = []
    refused = [Refused(one.place, one.operator, one.reason) for one in reading.unmapped]
    unnamed: set[str] = set()
    for number, row in enumerate(reading.rows, 1):
        try:
            settings = _settings(row, reading, names)
            cases.append(case(row, registry, settings))
        except NpusimError as error:
            refused.append(Refused(row.place, row.kernel, str(error)))
        else:
            if row.device in reading.devices:
                unnamed.add(row.place)
        if progress:
            progress(number, len(reading.rows))
    return Selection(cases, refused, frozenset(unnamed))


def _settings(row: Measurement, reading: Reading, names: Mapping[str, Collection[str]]) -> MachineSettings:
    """The profile for a row; `names`: of the devices of each that may be. Unsupported where there is none."""
    stands = reading.devices.get(row.device)
    device = stands.profile if stands else row.device
    if not names:
        if not device:
            raise Unsupported("names no device; give --profile")
        machine = load_machine(device)
        return MachineSettings(profile=machine.name, cores=stands.cores if stands else None)
    profile = next((one for one, own in names.items() if not device or device.casefold() in own), None)
    if profile is None:
        known = f"--profile {next(iter(names))} does not describe"
        known = known if len(names) == 1 else f"none of --profile {','.join(names)} describes"
        raise Unsupported(f"measured on {row.device}, which {known}")
    return MachineSettings(profile=profile, cores=stands.cores if stands else None)
