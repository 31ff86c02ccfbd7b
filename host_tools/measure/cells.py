"""Numbers as a reader of the report sees them: one short text each."""

from __future__ import annotations

import math

from edge_runtime.contract.report import Probe
from host_tools.measure.study import Requirement

NONE = "–"  # noqa: RUF001 - an en dash in an empty cell


def with_unit(r: Requirement, value: float | None) -> str:
    """A requirement's value: 99.92 %, 12.4 x, 0.86 s."""
    if value is None:
        return NONE
    if r.unit == "x":
        return f"{value:.1f} x" if value < 100 else f"{value:.0f} x"
    return f"{value:.2f} {r.unit}" if r.unit else f"{value:g}"


def limit(r: Requirement, value: float | None) -> str:
    """Floor or goal, with the side on which values are good."""
    sign = "≥" if r.better == "higher" else "≤"
    return NONE if value is None else f"{sign} {value:g}"


def interval(r: Requirement) -> str:
    """The interval of a requirement."""
    return NONE if r.low is None or r.high is None else f"{r.low:.2f} to {r.high:.2f}"


def percent(ratio: float | None, digits: int = 1) -> str:
    """A ratio in percent, without the sign."""
    return NONE if ratio is None or not math.isfinite(ratio) else f"{100 * ratio:.{digits}f}"


def si(value: float) -> str:
    """A count with an SI prefix: 478 k."""
    for prefix, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.0f}"


def size(n_bytes: int) -> str:
    """The size of a file, in kB of 1,000 bytes."""
    return f"{n_bytes / 1e6:.2f} MB" if n_bytes >= 1_000_000 else f"{n_bytes / 1000:.1f} kB"


def mib(n_bytes: int | None) -> str:
    """Memory in MiB."""
    return "not known" if n_bytes is None else f"{n_bytes / 2**20:.1f} MiB"


def duration(ns: float | None) -> str:
    """A time in the unit that suits it: 850 ns, 12.3 µs, 4.56 ms, 1.2 s."""
    if ns is None:
        return NONE
    for unit, factor in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= factor:
            return f"{ns / factor:.3g} {unit}"
    return f"{ns:.0f} ns"


def probe(p: Probe) -> str:
    """What is known about the machine at one moment."""
    known = (
        ("{:.0f} MHz", p.frequency_mhz),
        ("{:.1f} °C", p.temperature_c),
        ("throttling: {}", None if p.throttled is None else ", ".join(p.throttled) or "none"),
        ("CPU {:.0f} % idle", p.idle_percent),
        ("{} of swap used", None if p.swap_used_bytes is None else mib(p.swap_used_bytes)),
    )
    return ", ".join(text.format(value) for text, value in known if value is not None) or "not known"
