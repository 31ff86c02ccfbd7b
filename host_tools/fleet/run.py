"""One piece of work on every host: side by side but bounded, each with an outcome whatever happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from edge_runtime.contract.errors import EdgeError
from host_tools.fleet.inventory import Host
from host_tools.fleet.waves import State
from host_tools.ship.device import Device, connect
from host_tools.ship.errors import LinkError, ShipError
from host_tools.ship.options import ShipOptions

AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one host in its wave, from 1 on; `message` of what went wrong, `answer` of what went well."""

    host: str
    target: str
    state: State
    message: str = ""
    answer: dict[str, object] = field(default_factory=dict)
    seconds: float = 0.0
    wave: int = 1


# say(host, what is being done there, the state once there is one)
Say = Callable[[str, str, State | None], None]
# What is done with a connected host; it raises EdgeError if it fails.
Work = Callable[[Host, Device, Callable[[str], None]], dict[str, object]]


class RegressedError(ShipError):
    """A release is worse than the one before, which is active again."""


def run_on(
    hosts: Sequence[Host],
    work: Work,
    options: ShipOptions,
    *,
    at_once: int = AT_ONCE,
    say: Say = lambda host, text, state: None,
    may_begin: Callable[[Sequence[State]], bool] = lambda states: True,
    wave: int = 1,
) -> list[Outcome]:
    """The outcome of each host, in order; at most `at_once` connections at a time, one for each host.

    may_begin  asked before each host, with the states so far; a host that may not begin is `left`
    """
    states: list[State] = []
    lock = threading.Lock()

    def one(host: Host) -> Outcome:
        with lock:
            goes = may_begin(states)
        outcome = _one(host, work, options, say, wave) if goes else _left(host, wave)
        with lock:
            states.append(outcome.state)
        say(host.name, outcome.message, outcome.state)
        return outcome

    if not hosts:
        return []
    with ThreadPoolExecutor(min(at_once, len(hosts)), thread_name_prefix="fleet") as pool:
        return list(pool.map(one, hosts))


def _one(host: Host, work: Work, options: ShipOptions, say: Say, wave: int) -> Outcome:
    started = time.monotonic()

    def outcome(state: State, message: str = "", answer: dict[str, object] | None = None) -> Outcome:
        return Outcome(
            host=host.name,
            target=host.target,
            state=state,
            message=message,
            answer=answer or {},
            seconds=time.monotonic() - started,
            wave=wave,
        )

    def progress(text: str, done: int, total: int) -> None:
        say(host.name, text, None)

    say(host.name, "connecting", None)
    try:
        device = connect(host.target, options, progress)
    except EdgeError as error:
        return outcome("away", str(error))
    try:
        with device:
            return outcome("done", answer=work(host, device, lambda text: say(host.name, text, None)))
    except RegressedError as error:
        return outcome("regressed", str(error))
    except LinkError as error:
        return outcome("away", str(error))
    except (EdgeError, OSError) as error:
        return outcome("failed", str(error))


def _left(host: Host, wave: int) -> Outcome:
    return Outcome(host=host.name, target=host.target, state="left", message="not begun", wave=wave)
