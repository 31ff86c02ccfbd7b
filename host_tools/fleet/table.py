"""A table of hosts that follows what is being done; lines where there is no terminal."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from host_tools.fleet.inventory import Host
from host_tools.fleet.run import Outcome, Say

COLOURS = {"done": "green", "away": "yellow", "failed": "red", "regressed": "red", "left": "dim"}
# Of a large fleet those are shown that something happens with, and those with trouble.
MOST_ROWS = 30


class _Rows:
    """What each host is at."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._lock = threading.Lock()
        self._texts = {host.name: "" for host in hosts}
        self._began: dict[str, float] = {}
        self._took: dict[str, float] = {}

    def say(self, host: str, text: str) -> None:
        """One host is at something else now."""
        with self._lock:
            self._texts[host] = text
            self._began.setdefault(host, time.monotonic())
            if _state(text):
                self._took[host] = time.monotonic() - self._began[host]

    def __rich__(self) -> Table:
        """The table as it is now."""
        with self._lock:
            texts, took = dict(self._texts), dict(self._took)
        counts = [f"{sum(_state(t) == state for t in texts.values())} {state}" for state in COLOURS]
        waiting = sum(not t for t in texts.values())
        table = Table(title=f"{len(texts)} hosts: {', '.join(counts)}, {waiting} waiting", title_justify="left")
        for column in ("host", "state", "s"):
            table.add_column(column, overflow="fold" if column == "state" else "ellipsis")
        for host in sorted(texts, key=lambda name: _rank(texts[name]))[:MOST_ROWS]:
            state = _state(texts[host])
            seconds = f"{took[host]:.1f}" if host in took else ""
            table.add_row(host, texts[host], seconds, style=COLOURS.get(state, ""))
        return table


def _state(text: str) -> str:
    word = text.split(":")[0]
    return word if word in COLOURS else ""


def _rank(text: str) -> int:
    """Trouble first, then what is going on, then what is done, then what waits."""
    state = _state(text)
    return 0 if state in ("failed", "regressed", "away") else 1 if text and not state else 2 if state == "done" else 3


@contextlib.contextmanager
def live_table(hosts: Sequence[Host]) -> Iterator[Say]:
    """Follow hosts on standard error; gives what is to be called with (host, what is being done)."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield (
            lambda host, text: console.print(f"{host}: {text}", soft_wrap=True, markup=False) if _state(text) else None
        )
        return
    rows = _Rows(hosts)
    with Live(rows, console=console, refresh_per_second=5):
        yield rows.say


def result_table(outcomes: Sequence[Outcome], column: str) -> Table:
    """One line a host; `column` names what of its answer is shown."""
    table = Table()
    for name in ("host", "wave", "state", column, "s"):
        table.add_column(name, overflow="fold")
    for one in outcomes:
        text = one.message or str(one.answer.get(column, ""))
        table.add_row(
            one.host, str(one.wave + 1), one.state, text, f"{one.seconds:.1f}", style=COLOURS.get(one.state, "")
        )
    return table
