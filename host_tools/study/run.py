"""Run a study: teachers first, then every row on every fold and seed, in processes side by side; cached and resumed."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import subprocess
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch

from edge_runtime.contract.errors import EngineError, SettingsError
from host_tools.export.plain import export_plain
from host_tools.measure.integer_layers import integer_layers, litert_integer_layers
from host_tools.measure.latency import interleaved_ns
from host_tools.measure.logits import graph_logits
from host_tools.measure.macs import macs, parameters
from host_tools.study.chains import Chains, Link
from host_tools.study.claims import judge_claims
from host_tools.study.personal import GAIN, Personal, compare, summary
from host_tools.study.plan import Options, Row, Study
from host_tools.study.preflight import preflight
from host_tools.study.result import SCHEMA, Cell, RowResult, StudyResult
from host_tools.study.sources import source_digest
from host_tools.study.statistics import pooled
from host_tools.tasks.known import module_of, open_task
from host_tools.tasks.task import Examples, Fold, Task, check_folds

Tick = Callable[[int, int, str], None]
ZLIB_LEVEL = 9
FEW_GROUPS = 0.25  # groups are told apart where they hold at least four examples each on average


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a study runs: the data root, and the folder that keeps models and cells."""

    root: Path | None
    out: Path

    def of(self, options: str) -> Path:
        """The folder of rows with these task options: they may make other networks of the same examples."""
        if options == "{}":
            return self.out
        return self.out / f"options-{hashlib.sha256(options.encode()).hexdigest()[:8]}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """The models of one fold and seed: the teacher of that seed, or all rows with the same task options."""

    study: Study
    place: Place
    options: str
    fold: int
    seed: int
    rows: tuple[str, ...]


def run_study(study: Study, place: Place, *, jobs: int, command: str, tick: Tick) -> StudyResult:
    """Run what is not there yet and gather the table; raises SettingsError before training for what cannot be."""
    begun = time.monotonic()
    groups = _by_options(study)
    every = [(o, f, s) for o in groups for f, s in _pairs(study, _task(study.task, o, place.root)[1])]
    for options, names in groups.items():
        task, folds = _task(study.task, options, place.root)
        preflight(study, task, folds[0], [study.find(name) for name in names])
    teachers = [
        Job(study=study, place=place, options=o, fold=f, seed=s, rows=())
        for o, f in dict.fromkeys((o, f) for o, f, _ in every)
        for s in study.teachers_of(groups[o])
    ]
    cells = [Job(study=study, place=place, options=o, fold=f, seed=s, rows=tuple(groups[o])) for o, f, s in every]
    n, found = len(teachers) + len(cells), {}
    with _executor(jobs) as executor:
        for done, (job, result) in enumerate(_run(executor, teachers, cells)):
            found.update(result)
            tick(done + 1, n, f"{'rows' if job.rows else 'teacher'}, fold {job.fold + 1}, seed {job.seed}")
    rows = [_row(study, place, row, found[row.name]) for row in study.row]
    ns = interleaved_ns(_graphs(study, place, rows), _shape(study, place))
    rows = [_with_latency(r, float(np.median(ns[r.name])) / 1e3) for r in rows]
    task, folds = _task(study.task, json.dumps(study.options), place.root)
    return StudyResult(
        schema=SCHEMA,
        name=study.name,
        title=study.title,
        note=study.note,
        task=task.title,
        data=task.data,
        metric=task.metric,
        classes=task.classes,
        study_sha256=hashlib.sha256(repr(study).encode()).hexdigest(),
        seeds=study.seeds,
        folds=tuple(f.name for f in folds if not study.folds or f.name in study.folds),
        pairing=study.pairing,
        command=command,
        commit=_commit(),
        machine=f"{platform.machine()}, {os.cpu_count()} CPUs, {_cpu()}",
        created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - begun, 1),
        rows=tuple(rows),
        claims=tuple(judge_claims(study, task, rows, folds, ns)),
    )


def _by_options(study: Study) -> dict[str, list[str]]:
    """Row names by the task options they need, as JSON."""
    groups: dict[str, list[str]] = {}
    for row in study.row:
        groups.setdefault(options_key(study.options_of(row)), []).append(row.name)
    return groups


def options_key(options: Options) -> str:
    """A task's options as `Place.of` takes them: JSON, sorted."""
    return json.dumps(options, sort_keys=True)


def _pairs(study: Study, folds: Sequence[Fold]) -> list[tuple[int, int]]:
    """(fold, seed) of every cell."""
    chosen = [i for i, f in enumerate(folds) if not study.folds or f.name in study.folds]
    unknown = sorted(set(study.folds) - {f.name for f in folds})
    if unknown:
        raise SettingsError(f"folds: no fold {unknown[0]!r}; folds are {', '.join(f.name for f in folds)}")
    if study.pairing == "one-to-one":
        return [(f, study.seeds[i % len(study.seeds)]) for i, f in enumerate(chosen)]
    if study.pairing == "by-repeat":
        repeats = {i: int(folds[i].name.partition(".")[0]) for i in chosen}
        return [(f, study.seeds[r]) for f, r in repeats.items() if r < len(study.seeds)]
    return [(f, s) for s in study.seeds for f in chosen]


@cache
def _task(name: str, options: str, root: Path | None) -> tuple[Task, Sequence[Fold]]:
    task = open_task(name, json.loads(options))
    folds = task.folds(root)
    check_folds(task, folds)
    return task, folds


def _executor(jobs: int) -> Executor | _Here:
    if jobs <= 1:
        return _Here()
    import multiprocessing

    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread)


def _one_thread() -> None:
    torch.set_num_threads(1)


class _Here:
    """An executor that does the work at once, in this process."""

    def __enter__(self) -> _Here:
        """Itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is left to do."""

    def submit(self, work: Callable[[Job], dict[str, list[Cell]]], job: Job) -> Future[dict[str, list[Cell]]]:
        """Do it."""
        done: Future[dict[str, list[Cell]]] = Future()
        done.set_result(work(job))
        return done

    def shutdown(self, *, cancel_futures: bool = False) -> None:
        """Nothing waits."""


Found = dict[str, list[Cell]]


def _run(executor: Executor | _Here, *phases: Iterable[Job]) -> Iterator[tuple[Job, dict[str, list[Cell]]]]:
    """Results as they come; a phase begins when the one before it has ended."""
    gathered: dict[str, list[Cell]] = {}
    for phase in phases:
        waiting = {executor.submit(_do, job): job for job in phase}
        try:
            for future in as_completed(waiting):
                for name, cells in future.result().items():
                    gathered.setdefault(name, []).extend(cells)
                yield waiting[future], gathered
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


def _do(job: Job) -> Found:
    """Make a teacher, or all rows of a fold and seed."""
    task, folds = _task(job.study.task, job.options, job.place.root)
    fold = folds[job.fold]
    chains = Chains(task, fold, module_of(job.study.task), job.place.of(job.options) / "models")
    if not job.rows:
        _teacher(job.study, chains, job.seed)
        return {}
    teachers = [_teacher(job.study, chains, s) for s in job.study.teachers_of(job.rows)]
    found: Found = {}
    for name in job.rows:
        row = job.study.find(name)
        if job.study.origin(row).network == "teacher" and not job.study.steps_of(row):
            link = chains.together(teachers)
        else:
            start = job.study.origin(row).network
            # A row that learns from no teacher does not depend on them.
            taught_by = teachers if job.study.teachers_of([name]) else []
            link = chains.make(start, job.seed, job.study.steps_of(row), taught_by, how=start)
        found[name] = [_cell(job, task, fold, link)]
        if row.personal is not None:
            _personal_cell(job, row, row.personal, fold, link)
    return found


def _teacher(study: Study, chains: Chains, seed: int) -> Link:
    assert study.teacher is not None
    network = study.teacher.network
    return chains.make(network, seed, study.teacher_steps(), how=network)


def _cell(job: Job, task: Task, fold: Fold, link: Link) -> Cell:
    """Score a model on the fold's test examples, as the ONNX file that would be shipped."""
    place = cell_files(job.place.of(job.options), link.key)
    tested = hashlib.sha256(np.ascontiguousarray(fold.test.inputs).tobytes()).hexdigest()
    if not place["tested"].exists() or place["tested"].read_text() != tested:
        place["onnx"].parent.mkdir(parents=True, exist_ok=True)
        c = link.candidate
        graph = c.graph or export_plain(c.network, fold.test.inputs.shape[1:])
        np.save(place["logits"], graph_logits(graph, fold.test.inputs))
        place["onnx"].write_bytes(graph.SerializeToString())
        place["tested"].write_text(tested)
    logits = np.load(place["logits"])
    figures = {k: float(v) if np.isfinite(v) else None for k, v in task.score(logits, fold.test).items()}
    return Cell(
        fold=fold.name,
        seed=job.seed,
        figures=figures,
        refused=link.refused,
        seconds=round(link.seconds, 2),
        key=link.key,
    )


def _personal_cell(job: Job, row: Row, how: Personal, fold: Fold, link: Link) -> None:
    """Keep what personal last layers say about the fold's test examples."""
    place = _personal_file(job.place.of(job.options), link.key, how)
    if not place.exists():
        found = compare(how, row.name, [p.name for p in job.study.steps_of(row)], link, fold.test)
        draft = place.with_suffix(f".{os.getpid()}.npz")
        np.savez(draft, index=found.index, logits=np.concatenate([found.before, found.after], axis=1))
        os.replace(draft, place)


def _personal_file(home: Path, key: str, how: Personal) -> Path:
    text = f"{how!r} {source_digest('host_tools.study.personal')}"
    return home / "cells" / f"{key}-personal-{hashlib.sha256(text.encode()).hexdigest()[:12]}.npz"


def _with_personal(result: RowResult, row: Row, task: Task, folds: dict[str, Fold], home: Path, n: int) -> RowResult:
    """The row with the table of its personal layers and their gain; the cells of a run are `n` after each other."""
    if row.personal is None:
        return result
    runs = []
    for start in range(0, len(result.cells), n):
        cells = result.cells[start : start + n]
        kept = [np.load(_personal_file(home, c.key, row.personal)) for c in cells]
        tests = [folds[c.fold].test.take(k["index"]) for c, k in zip(cells, kept, strict=True)]
        runs.append(_joined([k["logits"] for k in kept], tests))
    n_groups = len(set().union(*(folds[c.fold].test.groups.tolist() for c in result.cells)))
    table, gain = summary(row.personal, task.score, task.metric, runs, n_groups)
    return replace(result, tables=(*result.tables, table), figures={**result.figures, GAIN: gain})


def cell_files(home: Path, key: str) -> dict[str, Path]:
    """What is kept of a cell in the folder of its options: graph, logits of the test examples and their hash, model."""
    cells = home / "cells"
    return {
        "onnx": cells / f"{key}.onnx",
        "logits": cells / f"{key}.npy",
        "tested": cells / f"{key}.tested",
        "model": home / "models" / f"{key}.pt",
    }


def _row(study: Study, place: Place, row: Row, cells: list[Cell]) -> RowResult:
    """Gather a row's cells in the order of seeds and folds."""
    options = options_key(study.options_of(row))
    task, folds = _task(study.task, options, place.root)
    home = place.of(options)
    by_name = {f.name: f for f in folds}
    order = {f.name: i for i, f in enumerate(folds)}
    cells.sort(key=lambda c: (study.seeds.index(c.seed), order[c.fold]))
    runs = [cells] if study.pairing == "one-to-one" else [[c for c in cells if c.seed == s] for s in study.seeds]
    scored = [_run_of(run, by_name, home) for run in runs]
    first = cells[0]
    kept = cell_files(home, first.key)
    graph = onnx.load(kept["onnx"])
    content = graph.SerializeToString()
    saved = torch.load(kept["model"], weights_only=False)
    shape = folds[0].train.inputs.shape[1:]
    has_groups = len(set(folds[0].test.groups)) <= FEW_GROUPS * len(folds[0].test)
    per_group = _per_group(task, scored) if has_groups else []
    worst = [v for _, v in per_group[: max(1, round(len(per_group) / 10))]]
    result = RowResult(
        name=row.name,
        note=row.note,
        steps=tuple(p.name for p in study.steps_of(row)),
        cells=tuple(cells),
        figures=pooled(task.score, scored),
        parameters=parameters(saved["network"]),
        macs=macs(saved["network"], shape),
        file_bytes=len(content),
        compressed_bytes=len(zlib.compress(content, ZLIB_LEVEL)),
        integer_layers=integer_layers(graph),
        litert_layers=_litert_layers(graph),
        latency_us=None,
        per_group=tuple(per_group),
        worst_decile=float(np.mean(worst)) if worst else None,
        tables=saved["tables"],
    )
    return _with_personal(result, row, task, by_name, home, len(runs[0]))


def _litert_layers(graph: onnx.ModelProto) -> tuple[int, int] | None:
    try:
        return litert_integer_layers(graph)
    except (SettingsError, EngineError):
        return None


def _run_of(cells: Sequence[Cell], folds: dict[str, Fold], home: Path) -> tuple[np.ndarray, Examples]:
    """Logits and test examples of all folds of one run, one after another."""
    logits = [np.load(cell_files(home, c.key)["logits"]) for c in cells]
    return _joined(logits, [folds[c.fold].test for c in cells])


def _joined(parts: Sequence[np.ndarray], tests: Sequence[Examples]) -> tuple[np.ndarray, Examples]:
    logits = np.concatenate(parts)
    soft = None if tests[0].soft is None else np.concatenate([t.soft for t in tests if t.soft is not None])
    values = None if tests[0].values is None else np.concatenate([t.values for t in tests if t.values is not None])
    return logits, Examples(
        inputs=np.zeros((len(logits), 0), np.float32),  # scores need none
        labels=np.concatenate([t.labels for t in tests]),
        groups=np.concatenate([t.groups for t in tests]),
        soft=soft,
        values=values,
    )


def _per_group(task: Task, runs: Sequence[tuple[np.ndarray, Examples]]) -> list[tuple[str, float]]:
    """The metric of each group, mean of the runs, worst first."""
    groups = runs[0][1].groups
    found = []
    for name in np.unique(groups):
        index = np.flatnonzero(groups == name)
        values = [task.score(logits[index], examples.take(index))[task.metric.key] for logits, examples in runs]
        if np.isfinite(values).all():
            found.append((str(name), float(np.mean(values))))
    return sorted(found, key=lambda g: g[1], reverse=not task.metric.larger_is_better)


def _graphs(study: Study, place: Place, rows: Sequence[RowResult]) -> dict[str, onnx.ModelProto]:
    homes = {row.name: place.of(options_key(study.options_of(row))) for row in study.row}
    return {r.name: onnx.load(cell_files(homes[r.name], r.cells[0].key)["onnx"]) for r in rows}


def _shape(study: Study, place: Place) -> tuple[int, ...]:
    _, folds = _task(study.task, options_key(study.options_of(study.row[0])), place.root)
    return folds[0].train.inputs.shape[1:]


def _with_latency(row: RowResult, us: float) -> RowResult:
    return replace(row, latency_us=round(us, 2))


def _commit() -> str:
    folder = Path(__file__).resolve().parent
    done = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _cpu() -> str:
    from edge_runtime import probes

    return probes.machine().cpu or "unknown CPU"
