"""Progress bars on standard error, one per long step."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from host_tools.chain import Bar, Ticker


def console_bars(console: Console | None = None) -> Bar:
    """Bars on a terminal; on a file or pipe, one line when a step is done."""
    console = console or Console(stderr=True)

    @contextmanager
    def bar(text: str) -> Iterator[Ticker]:
        begun = time.monotonic()
        columns = (
            TextColumn("{task.description:<44}"),
            BarColumn(30),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
            task = shown.add_task(text, total=1, note="")

            def tick(done: int, total: int, note: str = "") -> None:
                shown.update(task, completed=done, total=max(1, total), note=note)

            yield tick
        if not console.is_terminal:
            sys.stderr.write(f"{text}: {time.monotonic() - begun:.1f} s\n")

    return bar
