"""What a link carries: the kernel and every setting that is not a default, by the names of the fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote

KERNEL = "tri-inverse"
"""the kernel of a link that names none"""
PAGES = ("timeline", "compare", "layer", "sweep", "calibrate", "graph")
"""pages with settings of their own in the link, PAGE.NAME, which ask nothing of the kernel"""
LISTS = ("set", "paths", "ideal")
"""settings of several values, separated by commas"""


@dataclass(frozen=True)
class State:
    """Settings as text, in the order of their names, so that equal views are equal states and links."""

    kernel: str = KERNEL
    values: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, object]) -> State:
        """From names and values; None, '' and () say nothing."""
        given = {name: as_text(value) for name, value in values.items()}
        kernel = given.pop("kernel", "") or KERNEL
        return cls(kernel, tuple(sorted((name, text) for name, text in given.items() if text)))

    @classmethod
    def from_query(cls, query: str) -> State:
        """From the part of a link behind its '?'."""
        return cls.of(dict(parse_qsl(query.removeprefix("?"))))

    @property
    def query(self) -> str:
        """The part of a link behind its '?'; '' where all is as by default."""
        own = {} if self.kernel == KERNEL else {"kernel": self.kernel}
        pairs = {**own, **dict(self.values)}.items()
        return "&".join(f"{quote(name, safe='')}={quote(text, safe=',=:')}" for name, text in pairs)

    def get(self, name: str, default: str = "") -> str:
        return dict(self.values).get(name, default)

    def listed(self, name: str) -> tuple[str, ...]:
        """The parts of a setting of several values."""
        return tuple(part for part in self.get(name).split(",") if part)

    def updated(self, **values: object) -> State:
        """With some values replaced; None, '' and () take a value away."""
        return State.of({"kernel": self.kernel, **dict(self.values), **values})

    def only(self, names: Iterable[str]) -> State:
        """Without the values that are not among `names`; those of pages stay."""
        kept = set(names)
        return self._where(lambda name: name in kept or of_page(name))

    @property
    def asked(self) -> State:
        """Without what pages have of their own: what is asked of npusim."""
        return self._where(lambda name: not of_page(name))

    @property
    def pages(self) -> State:
        """With what pages have of their own alone."""
        return self._where(of_page)

    def own(self, page: str) -> dict[str, str]:
        """What a page has of its own, by plain names."""
        start = f"{page}."
        return {name.removeprefix(start): text for name, text in self.values if name.startswith(start)}

    def viewed(self, page: str, **values: object) -> State:
        """With some of a page's own values replaced."""
        return self.updated(**{f"{page}.{name}": value for name, value in values.items()})

    def _where(self, kept: Callable[[str], bool]) -> State:
        return State(self.kernel, tuple((name, text) for name, text in self.values if kept(name)))


def of_page(name: str) -> bool:
    """Whether a name of a link is a page's own."""
    page, dot, _ = name.partition(".")
    return bool(dot) and page in PAGES


def whole(text: str) -> int | None:
    """A whole number as a link writes it, of at most 15 digits; None for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def as_text(value: object) -> str:
    """As the command line takes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(as_text(part) for part in value)
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() else repr(value)
    return str(value).strip()
