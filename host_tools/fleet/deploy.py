"""A release to many hosts in waves: a canary first, and an end by itself where hosts fail or become worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from edge_runtime.contract.bundle import Bundle, open_bundle
from host_tools.fleet.compare import compared, why_not
from host_tools.fleet.inventory import Host
from host_tools.fleet.run import AT_ONCE, Outcome, RegressedError, Say, Work, run_on
from host_tools.fleet.waves import (
    DEFAULT_WAVES,
    Figures,
    Limits,
    State,
    cut_in_waves,
    is_proved,
    regression,
    stop_reason,
)
from host_tools.ship.deploy import deploy_on, rollback_on, steps_on
from host_tools.ship.device import Device
from host_tools.ship.errors import ShipError
from host_tools.ship.options import ShipOptions


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """How a release is brought to a fleet.

    waves     how many hosts come one after the other: a number, a share like 10%, all
    compare   measure the old release and the new one on each host
    """

    waves: tuple[str, ...] = DEFAULT_WAVES
    limits: Limits = field(default_factory=Limits)
    compare: bool = True
    at_once: int = AT_ONCE


def deploy_to(
    bundle_dir: Path,
    hosts: Sequence[Host],
    options: ShipOptions,
    rollout: Rollout,
    say: Say = lambda host, text, state: None,
) -> tuple[list[Outcome], str]:
    """The outcome of every host, and why the waves were stopped, or nothing.

    A wave whose hosts are all away has proved nothing: as many of the next ones take their place.
    Raises BundleError for a damaged bundle and SettingsError for waves that cannot be read.
    """
    bundle = open_bundle(bundle_dir)
    waves = cut_in_waves(hosts, rollout.waves)
    outcomes: list[Outcome] = []
    stopped = ""
    for number, wave in enumerate(waves, 1):
        rest = list(wave)
        while rest and not stopped:
            earlier: list[State] = [outcome.state for outcome in outcomes]
            found = run_on(
                rest,
                _deploying(bundle, options, rollout),
                options,
                at_once=rollout.at_once,
                say=say,
                may_begin=_gate(earlier, rollout.limits),
                wave=number,
            )
            outcomes += found
            stopped = stop_reason([outcome.state for outcome in outcomes], rollout.limits)
            rest = []
            if not stopped and not is_proved([outcome.state for outcome in found]):
                rest = _take(waves[number:], len(wave))
        if stopped:
            break
    begun = {outcome.host for outcome in outcomes}
    left = [
        Outcome(host=host.name, target=host.target, state="left", message=f"stopped: {stopped}", wave=number)
        for number, wave in enumerate(waves, 1)
        for host in wave
        if host.name not in begun
    ]
    return outcomes + left, stopped


def plans_for(
    bundle_dir: Path,
    hosts: Sequence[Host],
    options: ShipOptions,
    rollout: Rollout,
    say: Say = lambda host, text, state: None,
) -> list[Outcome]:
    """What `deploy_to` would do on each host, in its wave; changes nothing on any."""
    bundle = open_bundle(bundle_dir)
    waves = cut_in_waves(hosts, rollout.waves)

    def work(host: Host, device: Device, tell: Callable[[str], None]) -> dict[str, object]:
        tell("looking at the device")
        return {"steps": [str(step) for step in steps_on(device, bundle, options)]}

    # A Python would be brought to a device without one as soon as it is connected.
    outcomes = run_on(hosts, work, replace(options, python_archive=None), at_once=rollout.at_once, say=say)
    numbers = [number for number, wave in enumerate(waves, 1) for _ in wave]
    return [replace(outcome, wave=number) for outcome, number in zip(outcomes, numbers, strict=True)]


def _gate(earlier: Sequence[State], limits: Limits) -> Callable[[Sequence[State]], bool]:
    return lambda states: not stop_reason([*earlier, *states], limits)


def _take(waves: Sequence[list[Host]], n: int) -> list[Host]:
    """Move hosts out of later waves."""
    taken: list[Host] = []
    for wave in waves:
        while wave and len(taken) < n:
            taken.append(wave.pop(0))
    return taken


def _deploying(bundle: Bundle, options: ShipOptions, rollout: Rollout) -> Work:
    def work(host: Host, device: Device, say: Callable[[str], None]) -> dict[str, object]:
        done = deploy_on(device, bundle, options, lambda text, _done, _total: say(text))
        answer = asdict(done)
        if done.previous == done.release:
            return answer
        if reason := why_not(done.previous, done.release) if rollout.compare else "--no-compare":
            return {**answer, "not_compared": reason}
        say("comparing with the release before")
        before, after = compared(device, str(done.previous), done.release)
        if worse := regression(before, after, rollout.limits):
            _go_back(device, done.release, worse, options)
        answer |= {"before": asdict(before), "after": asdict(after)}
        if before == Figures():
            answer["not_compared"] = "the runtime before cannot time its check"
        return answer

    return work


def _go_back(device: Device, release: str, worse: str, options: ShipOptions) -> None:
    try:
        back = rollback_on(device, None, options)
    except ShipError as error:
        raise ShipError(f"{device.name}: {release}: {worse}; it could not be rolled back: {error}") from error
    raise RegressedError(f"{device.name}: {release}: {worse}; {back.release} is active there again")
