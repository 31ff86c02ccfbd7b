"""Which hosts come when, and when no more may come: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from edge_runtime.contract.errors import SettingsError

T = TypeVar("T")
# done       as wished
# away       could not be reached, or the link was cut: says nothing about the release
# failed     refused, or did not pass its check; the release before it is active
# regressed  passed, but slower or less right than the one before, which is active again
# left       not begun, since the waves were stopped
State = Literal["done", "away", "failed", "regressed", "left"]
DEFAULT_WAVES = ("1", "10%", "all")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What stops the waves; raises SettingsError for what cannot be held.

    failures       hosts that may fail
    slower         the p50 of a block, against the release before: at most this many times
    less_agreeing  points of confidence by which golden vectors may be answered further off than before
    """

    failures: int = 0
    slower: float = 1.5
    less_agreeing: float = 0.01

    def __post_init__(self) -> None:
        """Refuse what would stop every wave, or none."""
        if self.failures < 0:
            raise SettingsError(f"--failures is {self.failures}; 0 or more hosts wanted")
        # Not a number is no more than 0 either.
        if not self.slower > 0:
            raise SettingsError(f"--slower is {self.slower:g}; more than 0 times wanted, such as 1.5")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a release's check said on a device; None where it does not say."""

    block_p50_ns: int | None = None
    worst_confidence: float | None = None
    given: int | None = None
    wanted: int | None = None


def wave_sizes(n_hosts: int, waves: Sequence[str]) -> list[int]:
    """How many hosts each wave has; `1`, `10%` (of all, rounded up), `all` the rest. Empty waves are left out."""
    sizes = []
    left = n_hosts
    for text in waves:
        number = text.removesuffix("%")
        if text != "all" and not (number.isdecimal() and int(number) > 0):
            raise SettingsError(f"wave {text!r}; a number of hosts, a share like 10%, or all wanted")
        if text == "all":
            size = left
        elif text.endswith("%"):
            size = -(-n_hosts * int(number) // 100)
        else:
            size = int(number)
        size = min(size, left)
        left -= size
        if size:
            sizes.append(size)
    # Whoever names waves means all hosts in the end.
    return [*sizes, left] if left else sizes


def cut_in_waves(hosts: Sequence[T], waves: Sequence[str]) -> list[list[T]]:
    """The hosts of each wave, in order."""
    found, start = [], 0
    for size in wave_sizes(len(hosts), waves):
        found.append(list(hosts[start : start + size]))
        start += size
    return found


def stop_reason(states: Sequence[State], limits: Limits) -> str:
    """Why no further host may begin; empty if they may. A host that is away stops nobody."""
    n_regressed, n_failed = states.count("regressed"), states.count("failed")
    if n_regressed:
        return f"{n_regressed} regressed"
    if n_failed > limits.failures:
        return f"{n_failed} failed, {limits.failures} may"
    return ""


def is_proved(states: Sequence[State]) -> bool:
    """Whether a wave has shown anything: a canary that is away has not sung."""
    return "done" in states


def regression(before: Figures, after: Figures, limits: Limits) -> str:
    """In what a release is worse on its device than the one before; empty if it is not, or nothing is known."""
    if before.block_p50_ns and after.block_p50_ns and after.block_p50_ns > limits.slower * before.block_p50_ns:
        times = after.block_p50_ns / before.block_p50_ns
        return (
            f"a block takes {after.block_p50_ns / 1000:.0f} us, {times:.2f} times as long as before; "
            f"{limits.slower:g} times at most wanted"
        )
    if after.wanted is not None and after.given is not None and after.given != after.wanted:
        return f"{after.given} of {after.wanted} golden readings given"
    a, b = after.worst_confidence, before.worst_confidence
    if a is not None and b is not None and a > b + limits.less_agreeing:
        return f"golden confidences differ by {a:.2g}, before by {b:.2g}; {limits.less_agreeing:g} more at most wanted"
    return ""
