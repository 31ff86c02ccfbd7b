"""Runs on the device, behind `device_loop.py`: switches to a release, proves it there, and goes back if it fails.

Standard library only. All of it happens on the device in one go, and its lock is held meanwhile: a link that is cut
changes nothing about how it ends.

    ROOT/service/service.json  the service that runs the active release, where `vitaledge service install` made one
    ROOT/service/proved        the release that the service was started with and that proved itself
    ROOT/service/request       what this user asks of a service that belongs to the system: a word and the request's
                               own number, read by root's unit
    TAKEN                      the number of the request that root's unit has carried out
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from typing import Any

from host_tools.ship.device_files import make_folder, read_json, write_synced
from host_tools.ship.device_loop import RefusedError
from host_tools.ship.device_steps import point

SERVING = "serving"
PROPERTIES = ("ActiveState", "SubState", "MainPID", "StatusText", "InvocationID", "Result", "NRestarts")
POLL_S = 0.03
ASK_AGAIN_S = 2.0
TAKEN = "/run/vitaledge-restart/taken"
State = dict[str, str]


class FailedError(RefusedError):
    """The release does not do here what it must."""


class Service:
    """The systemd service of this root; knows how this user may ask for a restart."""

    def __init__(self, root: str, scope: str, unit: str) -> None:
        self._root, self._scope, self.unit = root, scope, unit
        environment = {**os.environ, "XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"}
        self._environment = environment if scope == "user" else dict(os.environ)
        self._request = ""

    def state(self) -> State:
        """What systemd knows of it now."""
        done = self._systemctl("show", self.unit, "--property", ",".join(PROPERTIES))
        if done.returncode != 0:
            raise FailedError(f"systemd does not answer ({done.stderr.decode('utf-8', 'replace').strip()[-200:]})")
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def order(self, word: str) -> None:
        """`restart`, `kill` (and start again) or `stop`; does not wait for it."""
        if self._scope == "user" or os.getuid() == 0:
            for argv in orders(word, self.unit):
                self._systemctl(*argv)
            return
        # Only root may: its own small unit waits for this file to be written.
        self._request = f"{word} {os.urandom(8).hex()}\n"
        self._ask()

    def ask_again(self) -> None:
        """Repeat a request that was not taken: it is lost if it came while the one before was being read.

        A repeated one that was taken meanwhile does nothing: it has the same number.
        """
        if not self._request:
            return
        with contextlib.suppress(OSError), open(TAKEN) as stream:
            if stream.read().strip() == self._request.split()[1]:
                return
        self._ask()

    def _ask(self) -> None:
        with open(os.path.join(self._root, "service", "request"), "w") as stream:
            stream.write(self._request)

    def note_proved(self, release: str) -> None:
        """A switch that is cut before this is made again by the next deployment."""
        path = os.path.join(self._root, "service", "proved")
        with open(path + ".part", "w") as stream:
            stream.write(release)
        os.replace(path + ".part", path)
        give(self._root, path)

    def _systemctl(self, *argv: str) -> subprocess.CompletedProcess[bytes]:
        scope = ["--user"] if self._scope == "user" else []
        return subprocess.run(
            ["systemctl", *scope, *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=30,
            env=self._environment,
        )


def orders(word: str, unit: str) -> list[tuple[str, ...]]:
    """What systemctl is told for a word."""
    if word == "stop":
        return [("stop", "--no-block", unit)]
    # A unit that failed too often starts again only after `reset-failed`.
    kill = [("kill", "--signal=KILL", unit)] if word == "kill" else []
    return [*kill, ("reset-failed", unit), ("restart", "--no-block", unit)]


def service_of(root: str) -> Service | None:
    """The service that runs what is active here, if one is installed."""
    noted = read_json(os.path.join(root, "service", "service.json"))
    return Service(root, noted["scope"], noted["unit"]) if noted else None


def gate(root: str, release: str, previous: str | None, argv: list[str], limits: dict[str, Any]) -> object:
    """Make `release` active and prove it; if it fails, make `previous` active and wait until it serves.

    argv    the release's check: exit 0, and a line of JSON with what it found
    limits  see `Limits` in health.py
    """
    service = service_of(root)
    before = service.state()["InvocationID"] if service else ""
    point(root, release)
    try:
        found = prove(service, before, argv, limits)
        if service:
            service.note_proved(release)
        return {"failed": "", **found}
    except FailedError as error:
        found_s = time.monotonic()
        return {"failed": str(error), **go_back(root, previous, service, limits, found_s)}
    except BaseException:
        point(root, previous)
        raise


def serve(root: str, start_s: float) -> object:
    """Start the service afresh, and wait until it is ready."""
    service = service_of(root)
    if service is None:
        raise FailedError("no service is installed")
    before = service.state()["InvocationID"]
    service.order("restart")
    try:
        started(service, before, start_s)
    except FailedError as error:
        # Its source may be wrong: no reason to fall back to an older release.
        service.order("stop")
        raise FailedError(f"{error}; it is stopped") from error
    service.note_proved(os.path.basename(os.readlink(os.path.join(root, "current"))))
    return {}


def service_state(root: str) -> object:
    """What is noted of the service, and what systemd says of it."""
    folder = os.path.join(root, "service")
    noted, service = read_json(os.path.join(folder, "service.json")), service_of(root)
    proved = ""
    with contextlib.suppress(OSError), open(os.path.join(folder, "proved")) as stream:
        proved = stream.read()
    return {
        "scope": noted.get("scope", ""),
        "source": noted.get("source", ""),
        "release": proved,
        "state": service.state() if service else {},
        "fallback": read_json(os.path.join(folder, "fallback.json")),
    }


def note_service(root: str, scope: str, unit: str, source: str, fall_back: str) -> object:
    """Note that there is a service, and lay down what its units use."""
    folder = os.path.join(root, "service")
    make_folder(folder)
    write_synced(os.path.join(folder, "fall_back.py"), fall_back.encode())
    note = {"schema": 1, "scope": scope, "unit": unit, "source": source}
    request = os.path.join(folder, "request")
    # There before anybody asks, for a file that is just being made would be read empty; and made once, for root's unit,
    # where it waits already, would take another for an order.
    if not os.path.exists(request):
        write_synced(request, b"restart\n")
    write_synced(os.path.join(folder, "service.json"), json.dumps(note).encode())
    give(root, folder, *(os.path.join(folder, name) for name in os.listdir(folder)))
    return {}


def give(root: str, *paths: str) -> None:
    """What root made below a user's folder is that user's."""
    if os.getuid() == 0:
        owner = os.stat(root)
        for path in paths:
            found = os.stat(path)
            # What is his already is not touched: root's unit takes also that for an order.
            if (found.st_uid, found.st_gid) != (owner.st_uid, owner.st_gid):
                os.chown(path, owner.st_uid, owner.st_gid)


def forget_service(root: str) -> object:
    """No service is installed any more."""
    shutil.rmtree(os.path.join(root, "service"))
    return {}


def prove(service: Service | None, before: str, argv: list[str], limits: dict[str, Any]) -> dict[str, Any]:
    """Golden vectors, cost, the service's start, its first reading, its memory; raises FailedError."""
    if service:
        service.order("restart")
    check = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        invocation = started(service, before, limits["start_s"]) if service else ""
        out, err = wait_for(check, limits["check_s"])
        if check.returncode != 0:
            raise FailedError(f"failed its check (exit {check.returncode}): {last_line(err) or last_line(out)}")
        if why := over_budget(out, limits):
            raise FailedError(why)
        found: dict[str, Any] = {
            "check": out.decode("utf-8", "replace").strip(),
            "first_reading": "",
            "memory_bytes": 0,
        }
        if service and limits["reading_s"]:
            found["first_reading"] = first_reading(service, invocation, limits["reading_s"])
        if service:
            found["memory_bytes"] = hold_memory(service, invocation, limits["max_memory_mib"])
        return found
    finally:
        if check.poll() is None:
            check.kill()
            check.communicate()


def wait_for(process: subprocess.Popen[bytes], seconds: float) -> tuple[bytes, bytes]:
    """A program's output; raises FailedError if it takes too long."""
    try:
        return process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise FailedError(f"its check did not end within {seconds:g} s") from error


def started(service: Service, before: str, seconds: float) -> str:
    """Wait until a start after `before` is ready; gives that start's id."""
    until = time.monotonic() + seconds
    again = time.monotonic() + ASK_AGAIN_S
    while True:
        state = service.state()
        if state["InvocationID"] not in ("", before):
            if state["ActiveState"] == "active":
                return state["InvocationID"]
            if state["ActiveState"] in ("failed", "inactive", "deactivating") or state["SubState"] == "auto-restart":
                raise FailedError(f"its service does not start ({state['StatusText'] or state['Result']})")
        elif time.monotonic() > again:
            service.ask_again()
            again = time.monotonic() + ASK_AGAIN_S
        if time.monotonic() > until:
            raise FailedError(f"its service was not ready within {seconds:g} s ({state['SubState']})")
        time.sleep(POLL_S)


def first_reading(service: Service, invocation: str, seconds: float) -> str:
    """Wait for the reading that the service tells systemd of."""
    until = time.monotonic() + seconds
    while True:
        state = require_alive(service, invocation)
        if state["StatusText"].startswith(SERVING):
            return state["StatusText"]
        if time.monotonic() > until:
            said = f" ({state['StatusText']})" if state["StatusText"] else ""
            raise FailedError(f"no reading within {seconds:g} s{said}")
        time.sleep(POLL_S)


def require_alive(service: Service, invocation: str) -> State:
    """The state of a service that has not ended since it was started."""
    state = service.state()
    if state["InvocationID"] != invocation or state["ActiveState"] != "active":
        raise FailedError(f"its service ended soon after it started ({state['StatusText'] or state['Result']})")
    return state


def hold_memory(service: Service, invocation: str, most_mib: float | None) -> int:
    """The most memory that the service's process has had so far, in bytes; raises FailedError above the budget."""
    pid = require_alive(service, invocation)["MainPID"]
    try:
        with open(f"/proc/{pid}/status") as stream:
            peak = next(int(line.split()[1]) << 10 for line in stream if line.startswith("VmHWM:"))
    except (OSError, StopIteration) as error:
        raise FailedError(f"its process {pid} is gone") from error
    if most_mib is not None and peak > most_mib * (1 << 20):
        raise FailedError(f"its service took {peak / (1 << 20):.0f} MiB of memory; {most_mib:g} MiB is the budget")
    return peak


def over_budget(check: bytes, limits: dict[str, Any]) -> str:
    """Why what a check found is not good enough; empty if it is."""
    if not limits["exact"] and limits["max_block_ms"] is None and limits["max_memory_mib"] is None:
        return ""
    try:
        found = json.loads(check.decode("utf-8", "replace").strip().splitlines()[-1])
    except (ValueError, IndexError):
        return "its check does not say what it found"
    if limits["exact"] and not found.get("is_equal"):
        return "its golden vectors are not answered exactly"
    most_ms, most_mib = limits["max_block_ms"], limits["max_memory_mib"]
    if most_ms is not None:
        if "block_p99_ns" not in found:
            return "its check does not say how long a hop takes"
        p99_ms = found["block_p99_ns"] / 1e6
        if p99_ms > most_ms:
            return f"a hop takes {p99_ms:.3f} ms here (p99); {most_ms:g} ms is the budget"
    if most_mib is not None and found.get("peak_rss_bytes") is not None:
        peak_mib = found["peak_rss_bytes"] / (1 << 20)
        if peak_mib > most_mib:
            return f"its check took {peak_mib:.0f} MiB of memory; {most_mib:g} MiB is the budget"
    return ""


def go_back(
    root: str, previous: str | None, service: Service | None, limits: dict[str, Any], found_s: float
) -> dict[str, Any]:
    """Make `previous` active again; says how long it took from the finding of the failure until it served."""
    invocation = ""
    if service:
        with contextlib.suppress(FailedError):
            invocation = service.state()["InvocationID"]
    point(root, previous)
    problem = ""
    if service:
        # What failed may hang: it is not asked to end.
        service.order("kill" if previous else "stop")
        if previous:
            try:
                started(service, invocation, limits["start_s"])
                service.note_proved(previous)
            except FailedError as error:
                problem = str(error)
    return {"back_s": time.monotonic() - found_s, "problem": problem}


def last_line(output: bytes) -> str:
    """What a program said last."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip()[:300] if lines else ""


VERBS = {verb.__name__: verb for verb in (gate, serve, service_state, note_service, forget_service)}
