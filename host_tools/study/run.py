"""Run a study: teachers first, then every row on every fold and seed, in processes side by side; cached and resumed."""

from __future__ import annotations

import datetime
import json
import logging
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch

from edge_runtime.contract.errors import SettingsError
from host_tools.measure.latency import interleaved_ns
from host_tools.study.cells import Found, Job, do
from host_tools.study.claims import judge_claims
from host_tools.study.place import Place, cell_files, options_key, task_and_folds
from host_tools.study.plan import Study
from host_tools.study.preflight import preflight
from host_tools.study.result import SCHEMA, Refusal, RefusedRow, RowResult, StudyResult
from host_tools.study.rows import gather
from host_tools.study.version import study_sha256
from host_tools.tasks.task import Fold

log = logging.getLogger(__name__)

Tick = Callable[[int, int, str], None]


def run_study(study: Study, place: Place, *, jobs: int, command: str, tick: Tick) -> StudyResult:
    """Run what is not there yet and gather the table, with the rows that were refused meanwhile.

    Raises SettingsError before training for what cannot be, and at the end where every row was refused.
    """
    begun = time.monotonic()
    groups = _by_options(study)
    every = [(o, f, s) for o in groups for f, s in _pairs(study, task_and_folds(study.task, o, place.root)[1])]
    for options, names in groups.items():
        task, folds = task_and_folds(study.task, options, place.root)
        preflight(study, task, folds, [study.find(name) for name in names])
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
    lines = [gather(study, place, row, found[row.name]) for row in study.row]
    rows = [r for r in lines if isinstance(r, RowResult)]
    refused = tuple(r for r in lines if isinstance(r, RefusedRow))
    if not rows:
        raise SettingsError(f"study {study.name}: every row is refused; {refused[0].name!r}: {refused[0].why}")
    ns = interleaved_ns(_graphs(study, place, rows), _shape(study, place))
    rows = [_with_latency(r, float(np.median(ns[r.name])) / 1e3) for r in rows]
    task, folds = task_and_folds(study.task, json.dumps(study.options), place.root)
    return StudyResult(
        schema=SCHEMA,
        name=study.name,
        title=study.title,
        note=study.note,
        task=task.title,
        data=task.data,
        metric=task.metric,
        classes=task.classes,
        study_sha256=study_sha256(study),
        seeds=study.seeds,
        folds=tuple(f.name for f in folds if not study.folds or f.name in study.folds),
        pairing=study.pairing,
        command=command,
        commit=_commit(),
        machine=f"{platform.machine()}, {os.cpu_count()} CPUs, {_cpu()}",
        created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - begun, 1),
        rows=tuple(rows),
        refused=refused,
        claims=tuple(judge_claims(study, task, rows, folds, ns)),
    )


def _by_options(study: Study) -> dict[str, list[str]]:
    """Row names by the task options they need, as JSON."""
    groups: dict[str, list[str]] = {}
    for row in study.row:
        groups.setdefault(options_key(study.options_of(row)), []).append(row.name)
    return groups


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

    def submit(self, work: Callable[[Job], Found], job: Job) -> Future[Found]:
        """Do it."""
        done: Future[Found] = Future()
        done.set_result(work(job))
        return done

    def shutdown(self, *, cancel_futures: bool = False) -> None:
        """Nothing waits."""


def _run(executor: Executor | _Here, *phases: Iterable[Job]) -> Iterator[tuple[Job, Found]]:
    """Results as they come; a phase begins when the one before it has ended. A row's first refusal is logged."""
    gathered: Found = {}
    refused: set[str] = set()
    for phase in phases:
        waiting = {executor.submit(do, job): job for job in phase}
        try:
            for future in as_completed(waiting):
                for name, cells in future.result().items():
                    gathered.setdefault(name, []).extend(cells)
                    for cell in cells:
                        if isinstance(cell, Refusal) and name not in refused:
                            refused.add(name)
                            log.warning("row %r is refused: %s", name, cell.to_text())
                yield waiting[future], gathered
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


def _graphs(study: Study, place: Place, rows: Sequence[RowResult]) -> dict[str, onnx.ModelProto]:
    homes = {row.name: place.of(options_key(study.options_of(row))) for row in study.row}
    return {r.name: onnx.load(cell_files(homes[r.name], r.cells[0].key)["onnx"]) for r in rows}


def _shape(study: Study, place: Place) -> tuple[int, ...]:
    _, folds = task_and_folds(study.task, options_key(study.options_of(study.row[0])), place.root)
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
