"""A deterministic ECG simulator: sinus rhythm, premature beats, pauses and noise, in two correlated leads.

Morphology: a sum of Gaussians per beat, after McSharry, Clifford, Tarassenko and Smith, IEEE Trans Biomed Eng
50(3), 2003, with the waves placed in time instead of on a limit cycle. It is for demonstrations and tests;
accuracy on it says nothing about patients.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array, Float64Array

N, S, V = 0, 1, 2  # indices into AAMI_CLASSES
LEADS = ("MLII", "V1")
MAX_ECTOPIC_SHARE = 0.4
REFRACTORY_S = 0.28
REACH_S = 2.0  # no wave of a beat lies further than this from its QRS
QRS_ONSET_S = 0.045

# Episodes that a premature beat starts: (probability, ventricular beats, sinus beats between them).
COUPLET_SHARE, BIGEMINY_SHARE, BIGEMINY_BEATS = 0.12, 0.15, 3
V_PER_EPISODE = 1.0 + COUPLET_SHARE + BIGEMINY_SHARE * (BIGEMINY_BEATS - 1)
EXTRA_N_PER_EPISODE = BIGEMINY_SHARE * (BIGEMINY_BEATS - 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedEcg:
    """A stretch of simulated ECG with its labels.

    start         counter of the first sample
    samples       float32 (n, 2), mV; columns as in LEADS
    beat_samples  int64 (beats,), counters of the QRS fiducials, ascending
    beat_classes  int64 (beats,), index into AAMI_CLASSES: N 0, S 1, V 2
    """

    start: int
    rate_hz: float
    samples: Float32Array
    beat_samples: np.ndarray
    beat_classes: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What the simulated heart does.

    pvc, pac   share of all beats that are premature ventricular, premature atrial
    pause      chance that a sinus beat comes one to two intervals late
    noise_mv   RMS of the muscle noise; baseline wander has about five times that, mains hum a quarter
    patient    seed of the morphology: one number, one patient
    """

    heart_rate_bpm: float = 72.0
    pvc: float = 0.0
    pac: float = 0.0
    pause: float = 0.0
    noise_mv: float = 0.02
    patient: int = 1

    def __post_init__(self) -> None:
        """Refuse what no heart does."""
        if not 25.0 <= self.heart_rate_bpm <= 220.0:
            raise SettingsError(f"heart rate is {self.heart_rate_bpm:g}; 25 to 220 a minute wanted")
        for name in ("pvc", "pac", "pause"):
            if not 0.0 <= getattr(self, name) <= MAX_ECTOPIC_SHARE:
                raise SettingsError(f"{name} is {getattr(self, name):g}; 0 to {MAX_ECTOPIC_SHARE:g} wanted")
        if self.pvc + self.pac > MAX_ECTOPIC_SHARE:
            raise SettingsError(f"pvc + pac is {self.pvc + self.pac:g}; at most {MAX_ECTOPIC_SHARE:g} wanted")
        if not 0.0 <= self.noise_mv <= 5.0:
            raise SettingsError(f"noise is {self.noise_mv:g} mV; 0 to 5 wanted")


def simulate(
    seconds: float,
    *,
    rate_hz: float = 360.0,
    seed: int = 1,
    heart_rate_bpm: float = 72.0,
    pvc: float = 0.0,
    pac: float = 0.0,
    pause: float = 0.0,
    noise_mv: float = 0.02,
    patient: int = 1,
) -> SimulatedEcg:
    """Simulate `seconds` of ECG; the same arguments give the same samples. See Scenario for the rates.

    seed  of the rhythm and the noise
    """
    scenario = Scenario(
        heart_rate_bpm=heart_rate_bpm, pvc=pvc, pac=pac, pause=pause, noise_mv=noise_mv, patient=patient
    )
    return EcgSimulator(scenario, rate_hz=rate_hz, seed=seed).take(round(seconds * rate_hz))


class EcgSimulator:
    """An endless simulated recording; how it is cut into `take` calls changes nothing."""

    def __init__(self, scenario: Scenario, *, rate_hz: float, seed: int) -> None:
        if not 50.0 <= rate_hz <= 4096.0:
            raise SettingsError(f"rate_hz is {rate_hz:g}; 50 to 4096 wanted")
        self._rate_hz = rate_hz
        self._patient = _Patient.drawn(scenario.patient)
        self._beats = _rhythm(scenario, np.random.default_rng([seed, 1]))
        self._noise = _Noise(scenario, rate_hz, np.random.default_rng([seed, 2]))
        self._recent: deque[_Beat] = deque()
        self._next = 0

    def take(self, n: int) -> SimulatedEcg:
        """Return the next `n` samples."""
        start, stop, rate = self._next, self._next + n, self._rate_hz
        while not self._recent or self._recent[-1].t_s < stop / rate + REACH_S:
            self._recent.append(next(self._beats))
        while self._recent[0].t_s < start / rate - REACH_S:
            self._recent.popleft()
        clean = _render(list(self._recent), self._patient, start, n, rate)
        fiducials = np.array([math.floor(b.t_s * rate + 0.5) for b in self._recent], np.int64)
        classes = np.array([b.kind for b in self._recent], np.int64)
        is_here = (fiducials >= start) & (fiducials < stop)
        self._next = stop
        return SimulatedEcg(
            start=start,
            rate_hz=rate,
            samples=(clean + self._noise.take(n)).astype(np.float32),
            beat_samples=fiducials[is_here],
            beat_classes=classes[is_here],
        )


@dataclass(frozen=True)
class _Beat:
    """One beat: when its QRS is, its class, the sinus interval around it, ectopic focus, amplitude."""

    t_s: float
    kind: int
    rr_s: float
    focus: int
    gain: float


def _rhythm(scenario: Scenario, rng: np.random.Generator) -> Iterator[_Beat]:
    """Endless beats: each turn is at most one ectopic episode and then one sinus beat."""
    extra_n = scenario.pvc * EXTRA_N_PER_EPISODE / V_PER_EPISODE
    beats_per_turn = 1.0 / (1.0 - scenario.pvc - scenario.pac - extra_n)
    pvc_chance = scenario.pvc * beats_per_turn / V_PER_EPISODE
    pac_chance = scenario.pac * beats_per_turn
    sinus = _SinusNode(scenario.heart_rate_bpm, rng)
    t = float(rng.uniform(0.3, 0.9))
    yield sinus.beat(t, N)
    while True:
        rr, u = sinus.interval(t), rng.random()
        if u < pvc_chance:
            focus = int(rng.random() < 0.2)
            kind = rng.random()
            n_couplet = 2 if kind < COUPLET_SHARE else 1
            turns = BIGEMINY_BEATS if COUPLET_SHARE <= kind < COUPLET_SHARE + BIGEMINY_SHARE else 1
            for turn in range(turns):
                if turn:
                    yield sinus.beat(t, N)
                early = t + max(REFRACTORY_S, rr * rng.uniform(0.5, 0.72))
                yield sinus.beat(early, V, focus)
                if n_couplet == 2:
                    early += max(REFRACTORY_S, rr * rng.uniform(0.5, 0.65))
                    yield sinus.beat(early, V, focus)
                # Full compensatory pause: the sinus node never noticed.
                t = max(t + (1 + n_couplet) * rr, early + 0.8 * rr)
        elif u < pvc_chance + pac_chance:
            t += max(REFRACTORY_S, rr * rng.uniform(0.55, 0.78))
            yield sinus.beat(t, S, int(rng.random() < 0.2))
            t += rr * rng.uniform(1.0, 1.15)  # the sinus node is reset: no full compensation
        elif rng.random() < scenario.pause:
            t += rr * rng.uniform(2.0, 3.0)
        else:
            t += rr
        yield sinus.beat(t, N)


class _SinusNode:
    """Interval between sinus beats: respiratory and slow variability around the mean rate."""

    def __init__(self, heart_rate_bpm: float, rng: np.random.Generator) -> None:
        self._rng, self._mean_s = rng, 60.0 / heart_rate_bpm
        self._respiration_hz = float(rng.uniform(0.2, 0.3))
        self._phase = float(rng.uniform(0.0, 2.0 * math.pi))
        self._depth = float(rng.uniform(0.01, 0.05))
        self._slow = 0.0
        self._last_s = self._mean_s

    def interval(self, t_s: float) -> float:
        """Seconds from the sinus beat at `t_s` to the next."""
        self._slow = 0.98 * self._slow + 0.006 * float(self._rng.standard_normal())
        breath = self._depth * math.sin(2.0 * math.pi * self._respiration_hz * t_s + self._phase)
        vasomotor = 0.015 * math.sin(2.0 * math.pi * 0.1 * t_s)
        white = 0.006 * float(self._rng.standard_normal())
        self._last_s = max(REFRACTORY_S, self._mean_s * (1.0 + breath + vasomotor + self._slow + white))
        return self._last_s

    def beat(self, t_s: float, kind: int, focus: int = 0) -> _Beat:
        """Make the beat at `t_s`; breathing turns the heart and so modulates its amplitude."""
        breath = math.sin(2.0 * math.pi * self._respiration_hz * t_s + self._phase)
        gain = 1.0 + 0.04 * breath + 0.02 * float(self._rng.standard_normal())
        return _Beat(t_s, kind, self._last_s, focus, gain)


@dataclass(frozen=True)
class _Wave:
    """A Gaussian at `centre_s` after the QRS fiducial (after the T peak for T waves), mV in both leads."""

    centre_s: float
    sigma_s: float
    mv: tuple[float, float]


@dataclass(frozen=True)
class _Patient:
    """Waves of sinus beats, P of each atrial focus, QRS and T of each ventricular focus."""

    p: tuple[_Wave, ...]
    qrs: tuple[_Wave, ...]
    t: tuple[_Wave, ...]
    atrial_p: tuple[tuple[_Wave, ...], ...]
    ventricular: tuple[tuple[_Wave, ...], ...]
    ventricular_t: tuple[tuple[_Wave, ...], ...]
    qtc_s: float

    @classmethod
    def drawn(cls, patient: int) -> _Patient:
        """Draw a patient: amplitudes, widths, axis, conduction, foci."""
        rng = np.random.default_rng([patient, 3])

        def u(low: float, high: float) -> float:
            return float(rng.uniform(low, high))

        r, sigma, is_block = u(0.7, 1.7), u(0.009, 0.013), rng.random() < 0.15
        qrs = [
            _Wave(-u(0.026, 0.034), sigma, (-r * u(0.03, 0.15), 0.0)),
            _Wave(0.0, sigma * (1.5 if is_block else 1.0), (r, u(0.1, 0.35))),
            _Wave(u(0.028, 0.036), sigma * 1.1, (-r * u(0.05, 0.3), -u(0.5, 1.2))),
        ]
        if is_block:  # a slurred, delayed end of the QRS, as in bundle branch block
            qrs.append(_Wave(u(0.045, 0.055), u(0.016, 0.02), (r * u(0.2, 0.4), -u(0.2, 0.5))))
        pr, p_mv, p_sigma = u(0.13, 0.18), u(0.08, 0.2), u(0.017, 0.025)
        t_mv = u(0.2, 0.45) * (-0.6 if rng.random() < 0.15 else 1.0)
        foci = [_ventricular(u, 1.0 if rng.random() < 0.65 else -1.0) for _ in range(2)]
        return cls(
            p=(_Wave(-pr, p_sigma, (p_mv, 0.4 * p_mv)),),
            qrs=tuple(qrs),
            t=_t_wave(t_mv, u(-0.15, 0.25)),
            atrial_p=tuple(
                (_Wave(-u(0.1, 0.13), u(0.014, 0.02), (u(-1.1, 0.3) * p_mv, u(-0.6, 0.8) * p_mv)),) for _ in range(2)
            ),
            ventricular=tuple(qrs for qrs, _ in foci),
            ventricular_t=tuple(t for _, t in foci),
            qtc_s=u(0.38, 0.43),
        )


def _ventricular(u: Callable[[float, float], float], sign: float) -> tuple[tuple[_Wave, ...], tuple[_Wave, ...]]:
    """QRS and T of one ventricular focus: wide, tall, without P, the T wave against the QRS."""
    main, other = sign * u(1.0, 2.0), u(-1.6, 1.6)
    qrs = (
        _Wave(0.0, u(0.028, 0.04), (main, other)),
        _Wave(u(0.07, 0.09), u(0.028, 0.036), (-main * u(0.1, 0.5), -other * u(0.1, 0.5))),
    )
    return qrs, _t_wave(-main * u(0.25, 0.4), -other * u(0.2, 0.35))


def _t_wave(mv: float, other_mv: float) -> tuple[_Wave, ...]:
    """A T wave with a slow rise and a steeper fall."""
    return (
        _Wave(-0.035, 0.045, (0.5 * mv, 0.5 * other_mv)),
        _Wave(0.0, 0.028, (0.7 * mv, 0.7 * other_mv)),
    )


def _render(beats: list[_Beat], patient: _Patient, start: int, n: int, rate_hz: float) -> Float64Array:
    """Sum of all waves of all beats over the samples [start, start + n); float64 (n, 2), mV."""
    out = np.zeros((n, 2))
    t_s = np.array([b.t_s for b in beats])
    kind = np.array([b.kind for b in beats])
    focus = np.array([b.focus for b in beats])
    gain = np.array([b.gain for b in beats])
    # QT follows the interval: Framingham, Sagie et al., Am J Cardiol 70, 1992: QT = QTc - 0.154 (1 - RR).
    rr = np.array([b.rr_s for b in beats])
    t_peak_s = t_s - QRS_ONSET_S + patient.qtc_s - 0.154 * (1.0 - np.clip(rr, 0.3, 1.5)) - 0.08

    def add(waves: tuple[_Wave, ...], at_s: Float64Array, chosen: np.ndarray) -> None:
        for wave in waves:
            _add_wave(out, wave, at_s[chosen], gain[chosen], start, rate_hz)

    add(patient.p, t_s, kind == N)
    add(patient.qrs, t_s, kind != V)
    add(patient.t, t_peak_s, kind != V)
    for i in range(2):
        add(patient.atrial_p[i], t_s, (kind == S) & (focus == i))
        add(patient.ventricular[i], t_s, (kind == V) & (focus == i))
        add(patient.ventricular_t[i], t_peak_s + 0.03, (kind == V) & (focus == i))
    return out


def _add_wave(
    out: Float64Array, wave: _Wave, at_s: Float64Array, gain: Float64Array, start: int, rate_hz: float
) -> None:
    n = len(out)
    centre = (at_s + wave.centre_s) * rate_hz - start
    half = math.ceil(4.5 * wave.sigma_s * rate_hz)
    index = np.floor(centre).astype(np.int64)[:, None] + np.arange(-half, half + 2)[None, :]
    inside = (index >= 0) & (index < n)
    shape = gain[:, None] * np.exp(-0.5 * ((index - centre[:, None]) / (wave.sigma_s * rate_hz)) ** 2)
    summed = np.bincount(index[inside], weights=shape[inside], minlength=n)
    for lead in range(2):
        out[:, lead] += wave.mv[lead] * summed


class _Noise:
    """Baseline wander, muscle noise that swells and ebbs, and mains hum; independent in the two leads."""

    def __init__(self, scenario: Scenario, rate_hz: float, rng: np.random.Generator) -> None:
        self._rng, self._rate_hz, self._level = rng, rate_hz, scenario.noise_mv
        self._wander_hz = np.concatenate((rng.uniform(0.04, 0.15, 2), rng.uniform(0.18, 0.35, 2)))
        self._wander_mv = scenario.noise_mv * 5.0 * rng.uniform(0.4, 1.0, (4, 2))
        self._phase = rng.uniform(0.0, 2.0 * np.pi, (6, 2))
        self._mains_hz = 60.0 if scenario.patient % 2 else 50.0
        self._last: Float64Array = np.zeros((1, 2))
        self._next = 0

    def take(self, n: int) -> Float64Array:
        """Return the next `n` samples of noise; float64 (n, 2), mV."""
        t_s = np.arange(self._next, self._next + n) / self._rate_hz
        self._next += n
        white = np.concatenate((self._last, self._rng.standard_normal((n, 2))))
        self._last = white[-1:]
        muscle = (white[1:] - 0.6 * white[:-1]) / math.sqrt(1.36)
        out = np.empty((n, 2))
        for lead in range(2):
            phase = self._phase[:, lead]
            swell = 1.0 + 0.5 * np.sin(2.0 * np.pi * 0.023 * t_s + phase[4])
            out[:, lead] = self._level * swell * muscle[:, lead]
            for k in range(4):
                angle = 2.0 * np.pi * self._wander_hz[k] * t_s + phase[k]
                out[:, lead] += self._wander_mv[k, lead] * np.sin(angle)
            if self._mains_hz < self._rate_hz / 2.0:
                out[:, lead] += 0.25 * self._level * np.sin(2.0 * np.pi * self._mains_hz * t_s + phase[5])
        return out
