"""The line that long work shows."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console


class _Line:
    """A line below the tables of a terminal, made of some columns; nothing where nobody looks."""

    def __init__(self, enabled: bool, *columns: str) -> None:
        from rich import progress

        console = Console(stderr=True)
        self.enabled = enabled and console.is_terminal and sys.stdout.isatty()
        made = [getattr(progress, name)() for name in columns]
        text = progress.TextColumn("{task.description}")
        self.bar = progress.Progress(
            text, *made, progress.TimeElapsedColumn(), console=console, transient=True
        )

    def begin(self, text: str) -> Any:
        """The task that the line shows."""
        self.bar.start()
        return self.bar.add_task(text, total=None)

    def __exit__(self, *_: object) -> None:
        if self.enabled:
            self.bar.stop()


class Progress(_Line):
    """Counts operations while the engine runs, and says when their values are computed."""

    def __init__(self, enabled: bool) -> None:
        super().__init__(enabled, "SpinnerColumn")

    def __enter__(self) -> Any:
        if not self.enabled:
            return None
        task = self.begin("building")

        def tell(count: int | None) -> None:
            said = "computing values" if count is None else f"simulating: {count:,} operations"
            self.bar.update(task, description=said)

        return tell


class Rows(_Line):
    """A bar over the rows that are predicted, again and again while numbers are fitted. It is told what
    stands for the braces of `text`, then how many rows are done, of how many."""

    def __init__(self, enabled: bool, text: str = "evaluation {}") -> None:
        super().__init__(enabled, "BarColumn", "MofNCompleteColumn")
        self.text = text

    def __enter__(self) -> Any:
        if not self.enabled:
            return None
        task = self.begin("predicting")

        def tell(*told: int) -> None:
            *what, done, of = told
            self.bar.update(task, description=self.text.format(*what), completed=done, total=of)

        return tell


class Points(_Line):
    """A bar over the points of a sweep, with their rate and the time that is left. It is told how many are
    known, of how many; the rate is that of those that come to be known meanwhile."""

    def __init__(self, enabled: bool) -> None:
        super().__init__(enabled, "BarColumn", "MofNCompleteColumn", "TimeRemainingColumn")

    def __enter__(self) -> Any:
        if not self.enabled:
            return None
        task, began, first = self.begin("computing"), time.monotonic(), list[int]()

        def tell(done: int, of: int) -> None:
            first.append(done)
            spent = time.monotonic() - began
            rate = (done - first[0]) / spent if spent > 0 else 0.0
            self.bar.update(task, description=f"computing, {rate:.0f} points/s", completed=done, total=of)

        return tell
