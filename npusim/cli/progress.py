"""The line that long work shows."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console


class Progress:
    """A line that counts operations while the engine runs; nothing where nobody looks."""

    def __init__(self, enabled: bool) -> None:
        from rich import progress

        console = Console(stderr=True)
        self.enabled = enabled and console.is_terminal and sys.stdout.isatty()
        self.bar = progress.Progress(
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}"),
            progress.TimeElapsedColumn(),
            console=console,
            transient=True,
        )

    def __enter__(self) -> Any:
        if not self.enabled:
            return None
        self.bar.start()
        self.task = self.bar.add_task("simulating")
        return lambda count: self.bar.update(self.task, description=f"simulating: {count:,} operations")

    def __exit__(self, *_: object) -> None:
        if self.enabled:
            self.bar.stop()


class Rows:
    """A bar over the rows that are predicted, again and again while numbers are fitted; nothing where nobody
    looks. It is told what stands for the braces of `text`, then how many rows are done, of how many."""

    def __init__(self, enabled: bool, text: str = "evaluation {}") -> None:
        from rich import progress

        console = Console(stderr=True)
        self.text = text
        self.enabled = enabled and console.is_terminal and sys.stdout.isatty()
        self.bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            console=console,
            transient=True,
        )

    def __enter__(self) -> Any:
        if not self.enabled:
            return None
        self.bar.start()
        task = self.bar.add_task("predicting", total=None)

        def tell(*told: int) -> None:
            *what, done, of = told
            self.bar.update(task, description=self.text.format(*what), completed=done, total=of)

        return tell

    def __exit__(self, *_: object) -> None:
        if self.enabled:
            self.bar.stop()
