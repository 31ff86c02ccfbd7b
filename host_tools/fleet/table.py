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
from host_tools.fleet.waves import State

COLOURS: dict[State, str] = {"done": "green", "away": "yellow", "failed": "red", "regressed": "red", "left": "dim"}
# Of a large fleet those are shown that something happens with, and those with trouble.
MOST_ROWS = 30


class _Rows:
    """What each host is at."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._lock = threading.Lock()
        self._texts = {host.name: "" for host in hosts}
        self._states: dict[str, State] = {}
        self._began: dict[str, float] = {}
        self._took: dict[str, float] = {}

    def say(self, host: str, text: str, state: State | None) -> None:
        """One host is at something else now."""
        with self._lock:
            self._texts[host] = text
            self._began.setdefault(host, time.monotonic())
            if state is not None:
                self._states[host] = state
                self._took[host] = time.monotonic() - self._began[host]

    def __rich__(self) -> Table:
        """The table as it is now."""
        with self._lock:
            texts, states, took = dict(self._texts), dict(self._states), dict(self._took)
            n_waiting = len(texts) - len(self._began)
        counts = [f"{n} {state}" for state in COLOURS if (n := list(states.values()).count(state))]
        title = ", ".join([f"{len(texts)} hosts", *counts, f"{n_waiting} waiting"])
        table = Table(title=title, title_justify="left")
        table.add_column("host")
        table.add_column("state", overflow="fold")
        table.add_column("s")
        ranks = {name: _rank(states.get(name), text) for name, text in texts.items()}
        # What is wrong with a host may be told nowhere else.
        most = max(MOST_ROWS, list(ranks.values()).count(0))
        for host in sorted(texts, key=lambda name: ranks[name])[:most]:
            state = states.get(host)
            text = ": ".join(part for part in (state, texts[host]) if part)
            seconds = f"{took[host]:.1f}" if host in took else ""
            table.add_row(host, text, seconds, style=COLOURS[state] if state else "")
        return table


def _rank(state: State | None, text: str) -> int:
    """Trouble first, then what is going on, then what is done, then what waits."""
    if state is None:
        return 1 if text else 3
    return 2 if state in ("done", "left") else 0


def _lines(console: Console) -> Say:
    """One line for each host, once it is known what became of it."""

    def say(host: str, text: str, state: State | None) -> None:
        if state is not None:
            console.print(": ".join(part for part in (host, state, text) if part), soft_wrap=True, markup=False)

    return say


@contextlib.contextmanager
def live_table(hosts: Sequence[Host]) -> Iterator[Say]:
    """Follow hosts on standard error; gives what is to be told (host, what is being done, state)."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    rows = _Rows(hosts)
    with Live(get_renderable=rows.__rich__, console=console, refresh_per_second=5):
        yield rows.say


def result_table(outcomes: Sequence[Outcome], column: str) -> Table:
    """One line a host; `column` names what of its answer is shown."""
    table = Table()
    for name in ("host", "wave", "state", column, "s"):
        table.add_column(name, overflow="fold")
    for one in outcomes:
        text = one.message or str(one.answer.get(column) or "none")
        if reason := one.answer.get("not_compared"):
            text += f" (not compared: {reason})"
        if isinstance(patterns := one.answer.get("unmatched"), list) and patterns:
            text += f" (no file matches {', '.join(patterns)})"
        table.add_row(one.host, str(one.wave), one.state, text, f"{one.seconds:.1f}", style=COLOURS[one.state])
    return table
