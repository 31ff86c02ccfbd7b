"""Source `synthetic:?heart_rate=72&pvc=0.05`: the ECG simulator as a stream."""

from __future__ import annotations

import math

from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array, StreamSpec
from edge_runtime.sensors.options import in_range, parse_options
from edge_runtime.sensors.playback import Pace, Playback
from edge_runtime.sensors.synthetic import LEADS, EcgSimulator, Scenario

FAST_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class SyntheticOptions:
    """Heart rate in beats a minute, `pvc` and `pac` as shares of all beats, `noise` in mV.

    seconds  length, `max` for endless; without it endless in real time and 60 s otherwise
    """

    heart_rate: float = 72.0
    pvc: float = 0.0
    pac: float = 0.0
    pause: float = 0.0
    noise: float = 0.02
    rate_hz: float = 250.0
    seconds: float | None = None
    seed: int = 1
    patient: int = 1
    speed: float | None = None


def open_synthetic(path: str, query: str, pace: Pace) -> Playback:
    """Open a simulated stream of one lead; the same URL gives the same samples."""
    if path:
        raise SettingsError(f"synthetic:{path}: a path is given; synthetic:?key=value&... wanted")
    options = parse_options(SyntheticOptions, query, "synthetic")
    in_range("synthetic: seed", options.seed, 0, 2**63)
    in_range("synthetic: patient", options.patient, 0, 2**63)
    pace = pace.at(options.speed)
    seconds = options.seconds
    if seconds is None:
        seconds = FAST_SECONDS if math.isinf(pace.speed) else math.inf
    if not seconds > 0.0:
        raise SettingsError(f"synthetic: seconds is {seconds:g}; a positive number or max wanted")
    scenario = Scenario(
        heart_rate_bpm=options.heart_rate,
        pvc=options.pvc,
        pac=options.pac,
        pause=options.pause,
        noise_mv=options.noise,
        patient=options.patient,
    )
    simulator = EcgSimulator(scenario, rate_hz=options.rate_hz, seed=options.seed)

    def read(start: int, stop: int) -> Float32Array:
        return simulator.take(stop - start).samples[:, :1].copy()

    n = None if math.isinf(seconds) else max(1, round(seconds * options.rate_hz))
    spec = StreamSpec(rate_hz=options.rate_hz, channels=LEADS[:1], simulated=True)
    return Playback(spec, read, n, pace)
