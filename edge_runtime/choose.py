"""Measures a bundle's forms on this device, each in a process of its own, and picks the fastest that fits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_runtime import probes
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import EngineError
from edge_runtime.contract.manifest import Form
from edge_runtime.forms import remember

ROUNDS = 3
TIMEOUT_S = 120.0
PROGRAM = """
import json, runpy, sys
sys.path[:] = json.loads(sys.argv.pop(1))
runpy.run_module("edge_runtime", run_name="__main__")
"""
SHARE_OF_MEMORY = 0.5  # of what the machine has, where no limit is given


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a form costs here.

    hop_ns          computing time of a hop, all stages, median; in the best of the rounds
    peak_rss_bytes  of the whole process; the largest of the rounds
    refused         why it cannot be chosen; empty if it can
    """

    form: Form
    version: str = ""
    provider: str = ""
    hop_ns: int = 0
    peak_rss_bytes: int = 0
    refused: str = ""

    def to_text(self) -> str:
        """A line for people."""
        if self.refused:
            return f"{self.form.name}: not chosen: {self.refused}"
        memory = f"{self.peak_rss_bytes / 1e6:.1f} MB"
        return f"{self.form.name}: {self.hop_ns / 1e3:.0f} us a hop, {memory} ({self.provider})"

    def to_json(self) -> dict[str, object]:
        """As plain values."""
        return {
            "engine": self.form.engine,
            "precision": self.form.precision,
            "version": self.version,
            "provider": self.provider,
            "hop_ns": self.hop_ns,
            "peak_rss_bytes": self.peak_rss_bytes,
            "refused": self.refused,
        }


def measure_forms(
    bundle: Bundle,
    threads: int,
    limit_bytes: int | None,
    progress: Callable[[str], None] = lambda text: None,
    rounds: int = ROUNDS,
) -> list[Measured]:
    """Every form of the bundle, in turns; those that fail their golden vectors or need too much memory are refused."""
    found: dict[str, Measured] = {}
    limit = limit_bytes if limit_bytes is not None else memory_limit()
    for i in range(rounds):
        for form in bundle.manifest.all_forms:
            before = found.get(form.name)
            if before is not None and before.refused:
                continue
            progress(f"round {i + 1} of {rounds}: {form.name}")
            now = _in_own_process(bundle, form, threads, limit)
            if before is not None and not now.refused:
                now = Measured(
                    form=form,
                    version=now.version,
                    provider=now.provider,
                    hop_ns=min(before.hop_ns, now.hop_ns),
                    peak_rss_bytes=max(before.peak_rss_bytes, now.peak_rss_bytes),
                )
            found[form.name] = now
    return list(found.values())


def best(measured: list[Measured], where: str) -> tuple[Measured, str]:
    """The fastest that is not refused, and why; raises EngineError if all are."""
    able = sorted((m for m in measured if not m.refused), key=lambda m: m.hop_ns)
    if not able:
        raise EngineError(f"{where}: no form can run here: {'; '.join(m.to_text() for m in measured)}")
    first, others = able[0], able[1:]
    why = first.to_text()
    if others:
        why += f"; {others[0].hop_ns / first.hop_ns:.2f} times as fast as {others[0].form.name}"
    refused = [m.to_text() for m in measured if m.refused]
    return first, "; ".join([why, *refused])


def memory_limit() -> int:
    """Half of this machine's memory."""
    total = probes.machine().memory_bytes
    return round(SHARE_OF_MEMORY * total) if total else sys.maxsize


def _in_own_process(bundle: Bundle, form: Form, threads: int, limit_bytes: int) -> Measured:
    """`edge-runtime check --timing` of one form, as a process: memory of one engine is not that of another."""
    # With this process's own paths: on a gateway they are the release's, and no environment names them. The package's
    # own place is not among them where it is installed as a link to its sources.
    paths = [*sys.path, str(Path(__file__).resolve().parents[1])]
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, json.dumps(paths)]
    command += ["check", str(bundle.path), "--json", "--timing"]
    command += ["--engine", form.engine, "--precision", form.precision, "--threads", str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return Measured(form=form, refused=f"took more than {TIMEOUT_S:g} s")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        return Measured(form=form, refused=lines[-1].removeprefix("edge-runtime: "))
    said = json.loads(done.stdout)
    measured = Measured(
        form=form,
        version=said["version"],
        provider=said["provider"],
        hop_ns=said["block_p50_ns"],
        peak_rss_bytes=said["peak_rss_bytes"] or 0,
    )
    if measured.peak_rss_bytes > limit_bytes:
        reason = f"needs {measured.peak_rss_bytes / 1e6:.1f} MB; the limit is {limit_bytes / 1e6:.1f} MB"
        return Measured(form=form, version=measured.version, provider=measured.provider, refused=reason)
    return measured


def choose(
    bundle: Bundle,
    *,
    threads: int = 1,
    limit_bytes: int | None = None,
    cache: Path | None = None,
    progress: Callable[[str], None] = lambda text: None,
    rounds: int = ROUNDS,
) -> tuple[list[Measured], Measured, str, Path]:
    """Measure all forms, pick one and remember it; gives the measurements, the one, why, and where it is written."""
    measured = measure_forms(bundle, threads, limit_bytes, progress, rounds)
    chosen, why = best(measured, str(bundle.path))
    return measured, chosen, why, remember(bundle, chosen.form, chosen.version, why, cache)
