"""The main job end to end: recipe -> models -> verified bundles -> target -> bench there -> report."""

from __future__ import annotations

import datetime
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from edge_runtime.assemble import TRUNK, open_engine
from edge_runtime.bench import TimedEngine
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.latency import Latency, latency, without_values
from edge_runtime.contract.manifest import Training
from edge_runtime.contract.report import BenchReport
from edge_runtime.contract.report import to_json as bench_json
from edge_runtime.contract.signal import Reading
from edge_runtime.engine.engine import Engine
from host_tools.chain import Bar, Chain, Models
from host_tools.compress.quantize import Scale
from host_tools.data.examples import condition
from host_tools.data.records import EcgRecord
from host_tools.data.sets import DataSet, open_data_set
from host_tools.export.forms import with_litert
from host_tools.export.onnx_trunk import write_trunk
from host_tools.export.pack import pack, with_metrics
from host_tools.export.program import fold
from host_tools.measure.macs import parameters
from host_tools.measure.report import write_report
from host_tools.measure.requirements import ecg_requirements
from host_tools.measure.runs import compare_runs, score_bench
from host_tools.measure.score import RecordScore, figures, gross
from host_tools.measure.speed import WINDOW_SAMPLES, step_speedup
from host_tools.measure.streaming import score_readings, stream_record
from host_tools.measure.strips import pick_strips
from host_tools.measure.study import Accuracy, SeedRun, StepResult, StudyReport, accuracy
from host_tools.measure.target import bench_here, bench_on
from host_tools.measure.teacher import score_teacher
from host_tools.nets.beats import BeatNet
from host_tools.recipe import Recipe, load_recipe
from host_tools.ship.deploy import deploy
from host_tools.ship.device import connect
from host_tools.ship.options import ShipOptions

WINDOW_FILE = "window-fp32.onnx"  # the shipped student as one would deploy it without streaming


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the main job is asked to do.

    out     folder for models, bundle, report; a run that was interrupted there goes on
    target  where the bundle is shipped and measured
    data    overrides the recipe's data set
    """

    recipe: Path
    out: Path
    target: str
    command: str
    data_root: Path | None = None
    data: Literal["mitdb", "simulated"] | None = None
    ship: ShipOptions = field(default_factory=ShipOptions)


@dataclass(frozen=True, kw_only=True)
class Done:
    """What the main job left: the report as a value and as files, and the bundle."""

    report: StudyReport
    report_json: Path
    report_html: Path
    bundle: Bundle
    seconds: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tested:
    """A streaming model with its bundle, its score and the time of its steps on this machine."""

    bundle: Bundle
    scores: list[RecordScore]
    latency: Latency


def run_study(wish: Wish, bar: Bar) -> Done:
    """Run the main job; raises EdgeError on every expected failure, and leaves what is finished for a next run."""
    begun = time.monotonic()
    torch.set_num_threads(max(1, torch.get_num_threads()))
    recipe, recipe_sha256 = load_recipe(wish.recipe)
    if wish.data is not None:
        recipe = replace(recipe, data=replace(recipe.data, set=wish.data))
    data = open_data_set(recipe.data.set, wish.data_root)
    chain = Chain(recipe, data, wish.out / "models", bar, wish.data_root)
    models = chain.make()
    study = _Study(wish, recipe, recipe_sha256, data, chain, models, bar)
    report, bundle = study.run()
    report_json, report_html = write_report(report, wish.out)
    return Done(
        report=report,
        report_json=report_json,
        report_html=report_html,
        bundle=bundle,
        seconds=time.monotonic() - begun,
    )


class _Study:
    """Tests the models of a chain, ships the last one, and gathers the report."""

    def __init__(
        self,
        wish: Wish,
        recipe: Recipe,
        recipe_sha256: str,
        data: DataSet,
        chain: Chain,
        models: Models,
        bar: Bar,
    ) -> None:
        self._wish, self._recipe, self._data, self._models, self._bar = wish, recipe, data, models, bar
        self._engine: Engine = open_engine()
        self._training = Training(
            commit=_commit(),
            recipe=wish.recipe.name,
            recipe_sha256=recipe_sha256,
            seed=recipe.student.seeds[0],
            records=f"{data.title}: {' '.join(chain.train_names)}",
            simulated=data.is_simulated,
        )
        split = data.split
        self._apart_names = split.apart if recipe.data.hold_out == "test" else ()
        with bar("load test records") as tick:
            names = (*chain.test_names, *self._apart_names)
            self._records = []
            for i, name in enumerate(names):
                self._records.append(data.load(name))
                tick(i + 1, len(names), name)
        self._n_test = len(chain.test_names)

    def run(self) -> tuple[StudyReport, Bundle]:
        """Test, ship, measure there, report."""
        m, shape = self._models, self._recipe.prune
        steps = [self._teacher_step()]
        alone = [self._test(s, None, f"alone-{i}", f"test student alone {i + 1}") for i, s in enumerate(m.alone)]
        distilled = [
            self._test(s, None, f"distilled-{i}", f"test distilled student {i + 1}") for i, s in enumerate(m.distilled)
        ]
        pruned = self._test(m.pruned, None, "pruned", "test pruned student")
        int8 = self._test(m.pruned, m.scales, "int8", "test INT8 student")
        steps += [
            self._step("student alone, fp32", m.alone[0], alone[0], "trained without the teacher"),
            self._step("student distilled, fp32", m.distilled[0], distilled[0], ""),
            self._step(f"pruned to {shape.channels} channels, fp32", m.pruned, pruned, "distilled fine-tuning"),
            self._step("INT8", m.pruned, int8, _integers(int8.bundle)),
        ]
        shipped = self._final_bundle(int8)
        device, host = self._ship_and_bench(shipped)
        scores = score_bench(device, self._records)
        seeds = tuple(
            SeedRun(seed=seed, distilled=self._macro(d.scores), alone=self._macro(a.scores))
            for seed, d, a in zip(self._recipe.student.seeds, distilled, alone, strict=True)
        )
        return self._report(shipped, device, host, scores, tuple(steps), pruned.scores, seeds), shipped

    def _report(
        self,
        bundle: Bundle,
        device: BenchReport,
        host: BenchReport,
        scores: list[RecordScore],
        steps: tuple[StepResult, ...],
        fp32: list[RecordScore],
        seeds: tuple[SeedRun, ...],
    ) -> StudyReport:
        n = self._n_test
        test = accuracy(f"INT8 student, streaming on {self._wish.target}", scores[:n])
        apart = [accuracy("records told apart: the same person as a training record", scores[n:])] if scores[n:] else []
        without = [test.without("232")] if any(r.name == "232" for r in test.records) else []
        against = compare_runs(host, device)
        with self._bar("time a streaming step against a window") as tick:
            program = fold(self._models.pruned.trunk)
            window, _ = write_trunk(program, "windowed", WINDOW_SAMPLES)
            (self._wish.out / WINDOW_FILE).write_bytes(window.SerializeToString())
            speedup = step_speedup(program, bundle, self._engine)
            tick(1, 1)
        delays = [r.max_delay_s for r in device.records if r.max_delay_s is not None]
        requirements = ecg_requirements(
            test=test,
            fp32=Accuracy(title="fp32", records=accuracy("fp32", fp32[:n]).records),
            delay_s=max(delays, default=None),
            int8_bytes=_graph_bytes(bundle),
            teacher_bytes=sum(_fp32_bytes(t) for t in self._models.teachers),
            seeds=seeds,
            speedup=speedup,
            against_host=against,
            simulated=self._data.is_simulated,
        )
        detected = {r.name: (r.beat_samples, r.beat_classes) for r in device.records}
        return StudyReport(
            title=f"{self._recipe.name}: {self._data.title}",
            created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            command=self._wish.command,
            commit=self._training.commit,
            recipe=f"{self._wish.recipe.name} (sha256 {self._training.recipe_sha256[:12]})",
            seed=self._training.seed,
            data=self._data_words(),
            simulated=self._data.is_simulated,
            requirements=requirements,
            steps=steps,
            test=test,
            apart=tuple([*without, *apart]),
            seeds=seeds,
            strips=pick_strips(self._records[:n], detected),
            device_conditions=device.conditions,
            device_latencies=device.latencies,
            device_overhead_ns=device.overhead_ns,
            device_memory=device.memory,
            device_cold_start=device.cold_start,
            device_real_time_factor=device.real_time_factor,
            against_host=against,
            notes=self._notes(),
        )

    def _data_words(self) -> str:
        tested = " ".join(r.name for r in self._records[: self._n_test])
        return f"trained on {self._training.records}; tested on {tested}"

    def _notes(self) -> tuple[str, ...]:
        notes = [
            "All beats count, from the first sample on; detections are the model's own; a match lies within 150 ms.",
            "Of the table of models, only the last one was measured on the target; the others ran on this machine.",
        ]
        if self._data.name == "mitdb" and self._recipe.data.hold_out == "test":
            notes.append("Record 202 is the same person as training record 201 and is told apart.")
        return tuple(notes)

    def _teacher_step(self) -> StepResult:
        r, teachers = self._recipe, self._models.teachers
        scores = []
        with self._bar("test teacher") as tick:
            for i, record in enumerate(self._records[: self._n_test]):
                conditioned = condition(record, r.timing, r.conditioning)
                scores.append(score_teacher(teachers, record, conditioned, r.conditioning, r.threshold))
                tick(i + 1, self._n_test, record.name)
        n = sum(parameters(t) for t in teachers)
        return StepResult(
            name="teacher" if len(teachers) == 1 else f"teacher, ensemble of {len(teachers)}",
            parameters=n,
            macs_per_s=sum(_teacher_macs(t, r.conditioning.rate_hz) for t in teachers),
            model_bytes=sum(_fp32_bytes(t) for t in teachers),
            test=accuracy("teacher", scores),
            note="wide networks of the student's kind, their probabilities averaged",
        )

    def _step(self, name: str, student: BeatNet, tested: _Tested, note: str) -> StepResult:
        trunk = tested.bundle.manifest.graph(TRUNK)
        hops_per_s = self._recipe.conditioning.rate_hz / tested.bundle.manifest.hop_samples
        return StepResult(
            name=name,
            parameters=parameters(student),
            macs_per_s=trunk.macs * hops_per_s,
            model_bytes=_graph_bytes(tested.bundle),
            test=accuracy(name, tested.scores[: self._n_test]),
            latency=without_values(tested.latency),
            note=note,
        )

    def _test(self, student: BeatNet, scales: dict[str, Scale] | None, name: str, text: str) -> _Tested:
        """Pack, verify, and stream the test records through the device's pipeline here."""
        with self._bar(text) as tick:
            packed = pack(
                student,
                scales,
                self._wish.out / "bundles" / name,
                conditioning=self._recipe.conditioning,
                engine=self._engine,
                training=self._training,
                threshold=self._recipe.threshold,
                name=self._recipe.name,
            )
            engine = TimedEngine(self._engine, time.perf_counter_ns)
            scores = []
            for i, record in enumerate(self._records):
                scores.append(score_readings(record, self._readings(packed.bundle, engine, record)))
                tick(i + 1, len(self._records), record.name)
        return _Tested(bundle=packed.bundle, scores=scores, latency=latency(TRUNK, engine.step_ns[TRUNK]))

    def _readings(self, bundle: Bundle, engine: Engine, record: EcgRecord) -> Sequence[Reading]:
        return stream_record(bundle, engine, record).readings

    def _final_bundle(self, int8: _Tested) -> Bundle:
        """The bundle that is shipped: the INT8 one with its figures on the test records."""
        found = figures(gross(int8.scores[: self._n_test]))
        metrics = {k: round(float(v), 5) for k, v in found.items() if v == v}
        destination = self._wish.out / "bundle"
        if destination.exists():
            shutil.rmtree(destination)
        shutil.copytree(int8.bundle.path, destination)
        return with_litert(with_metrics(replace(int8.bundle, path=destination), metrics))

    def _ship_and_bench(self, bundle: Bundle) -> tuple[BenchReport, BenchReport]:
        wish = self._wish
        with self._bar(f"ship to {wish.target}") as tick:
            deploy(bundle.path, wish.target, options=wish.ship, progress=lambda t, d, n: tick(d, n, t))
            tick(1, 1)
        with self._bar(f"bench on {wish.target}") as tick, connect(wish.target, wish.ship) as device:
            there = bench_on(device, self._records, progress=lambda t, d, n: tick(d, n, t))
        with self._bar("bench on this machine") as tick:
            here = bench_here(bundle.path, self._records)
            tick(1, 1)
        (wish.out / "bench.json").write_text(bench_json(there))
        return there, here

    def _macro(self, scores: Sequence[RecordScore]) -> float:
        return 100.0 * float(figures(gross(scores[: self._n_test]))["macro_f1"])


def _graph_bytes(bundle: Bundle) -> int:
    return sum(bundle.file(g.file).stat().st_size for g in bundle.manifest.graphs)


def _fp32_bytes(teacher: BeatNet) -> int:
    return 4 * parameters(teacher)


def _teacher_macs(teacher: BeatNet, rate_hz: int) -> float:
    """Multiply-accumulates per second of signal in the convolutions."""
    frames_per_s = rate_hz / teacher.timing.stride
    convolutions = [m for m in teacher.modules() if isinstance(m, torch.nn.Conv1d)]
    return frames_per_s * sum(m.weight.numel() for m in convolutions)


def _integers(bundle: Bundle) -> str:
    trunk = bundle.manifest.graph(TRUNK)
    return f"{trunk.integer_operators} of {trunk.operators} trunk operators compute in integers"


def _commit() -> str:
    """The commit of the source tree, marked if the code has changes; empty outside a checkout."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        changes = git("status", "--porcelain", "--", "edge_runtime", "host_tools")
    except OSError:
        return ""
    return f"{commit}-dirty" if commit and changes else commit
