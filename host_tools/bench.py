"""A bundle on a target, measured: deploy, replay labelled records there, score, compare with this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_runtime.contract.bundle import Bundle, open_bundle
from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.manifest import WindowManifest
from edge_runtime.contract.report import BenchReport, claimed, to_json
from host_tools.data.records import EcgRecord
from host_tools.data.sets import data_root, open_data_set
from host_tools.measure.intervals import Interval
from host_tools.measure.runs import compare_runs, score_bench
from host_tools.measure.study import HostAgainstDevice, accuracy
from host_tools.measure.target import bench_here, bench_on
from host_tools.measure.windows import WindowRecord, golden_windows, load_windows, score_windows
from host_tools.ship.deploy import deploy
from host_tools.ship.device import connect
from host_tools.ship.options import Progress, ShipOptions

SHOWN = ("detection_se", "detection_ppv", "v_se", "v_ppv", "s_se", "s_ppv", "s_f1", "macro_f1", "answered", "accuracy")
SHOWN_PLAIN = ("mae",)


@dataclass(frozen=True, kw_only=True)
class Benched:
    """What the device said, how right it was, and whether this machine says the same."""

    device: BenchReport
    figures: dict[str, Interval]
    against_host: HostAgainstDevice
    file: Path

    def to_json(self) -> dict[str, object]:
        """The result as one JSON object; the device's full report lies in the file."""
        d = self.device
        return {
            "file": str(self.file),
            "simulated": d.simulated,
            "verdict": d.conditions.verdict,
            "reasons": list(d.conditions.reasons),
            "latencies": [{k: v for k, v in asdict(x).items() if k != "values"} for x in d.latencies],
            "memory": asdict(d.memory),
            "cold_start": asdict(d.cold_start),
            "real_time_factor": d.real_time_factor,
            "accuracy": {k: asdict(v) for k, v in self.figures.items()},
            "equal_beats": self.against_host.equal_beats,
            "beats": self.against_host.beats,
        }

    def to_text(self) -> str:
        """The result as a few lines."""
        d, c = self.device, self.device.conditions
        lines = [f"{c.bundle_id} on {c.board}, {c.cpu_model}, {c.engine} {c.engine_version}: {c.verdict}"]
        if d.simulated:
            lines.append("SIMULATED DATA")
        lines += [f"  {reason}" for reason in c.reasons]
        for x in d.latencies:
            p50, p95, p99, top = (_us(v) for v in (x.p50_ns, x.p95_ns, x.p99_ns, x.max_ns))
            lines.append(f"  {x.stage:6} p50 {p50}  p95 {p95}  p99 {p99}  max {top}  n {x.n}")
        peak = d.memory.peak_rss_bytes
        cold = d.cold_start
        lines.append(f"  peak RSS {peak / 1e6:.1f} MB" if peak is not None else "  peak RSS not measured")
        lines.append(
            f"  cold start: import {cold.import_ms:.0f} ms, load {cold.load_ms:.1f} ms, "
            f"first inference {cold.first_inference_ms:.2f} ms"
        )
        lines += [f"  {k:14} {_percent(v)}" for k, v in self.figures.items() if k in SHOWN]
        lines += [f"  {k:14} {_plain(v)}" for k, v in self.figures.items() if k in SHOWN_PLAIN]
        lines.append(
            f"  equal to this machine's run: {self.against_host.equal_beats} of {self.against_host.beats} readings"
        )
        lines.append(f"  report {self.file}")
        return "\n".join(lines)


def bench_bundle(
    bundle: Path,
    target: str,
    *,
    data: str | None,
    names: Sequence[str] | None,
    threads: int,
    ship: ShipOptions,
    out: Path,
    progress: Progress,
) -> Benched:
    """Deploy if needed, measure on the target, score by the host's scorer; writes the device's report to `out`."""
    shipped = open_bundle(bundle)
    bundle = shipped.path
    records: list[EcgRecord] | list[WindowRecord]
    if isinstance(shipped.manifest, WindowManifest):
        if data is not None:
            raise SettingsError(f"--data is {data}; bundle {shipped.id} takes --records FILE.npy ..., or nothing")
        records = load_windows(shipped, names) if names else golden_windows(shipped)
    else:
        root = data_root()
        opened = open_data_set(data or ("simulated" if root is None else "mitdb"), root)
        records = [opened.load(name) for name in names or opened.split.test]
    with claimed(out):
        deploy(bundle, target, options=ship, progress=progress)
        with connect(target, ship) as device:
            there = bench_on(device, records, threads=threads, progress=progress)
        out.write_text(to_json(there))
    progress("measuring on this machine", 0, 1)
    here = bench_here(bundle, records, threads=threads)
    return Benched(
        device=there,
        figures=_figures(shipped, there, records),
        against_host=compare_runs(here, there),
        file=out,
    )


def _figures(bundle: Bundle, report: BenchReport, records: list[EcgRecord] | list[WindowRecord]) -> dict[str, Interval]:
    ecg = [r for r in records if isinstance(r, EcgRecord)]
    if ecg:
        return accuracy("device", score_bench(report, ecg)).intervals()
    return score_windows(bundle, report.records, [r for r in records if isinstance(r, WindowRecord)])


def _us(ns: int | None) -> str:
    return "refused" if ns is None else f"{ns / 1000:.1f} us"


def _plain(found: Interval) -> str:
    if found.value is None:
        return "n/a"
    return f"{found.value:.3g}" + ("" if found.low is None else f"  [{found.low:.3g}, {found.high:.3g}]")


def _percent(found: Interval) -> str:
    if found.value is None:
        return "n/a"
    if found.low is None or found.high is None:
        return f"{100 * found.value:.2f} %"
    return f"{100 * found.value:.2f} %  [{100 * found.low:.2f}, {100 * found.high:.2f}]"
