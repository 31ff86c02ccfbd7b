"""The cells of a row, or why it has none, as a line of the table."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch

from edge_runtime.contract.errors import EngineError, SettingsError
from host_tools.measure.integer_layers import integer_layers, litert_integer_layers
from host_tools.measure.macs import macs, parameters
from host_tools.study.personal import GAIN, summary
from host_tools.study.place import Place, cell_files, options_key, personal_file, task_and_folds
from host_tools.study.plan import Row, Study
from host_tools.study.result import Cell, Refusal, RefusedRow, RowResult
from host_tools.study.statistics import pooled
from host_tools.tasks.task import Examples, Fold, Task

ZLIB_LEVEL = 9
FEW_GROUPS = 0.25  # groups are told apart where they hold at least four examples each on average


def gather(study: Study, place: Place, row: Row, found: Sequence[Cell | Refusal]) -> RowResult | RefusedRow:
    """A row's line, its cells in the order of seeds and folds; a row that any cell refused has none."""
    task, folds = task_and_folds(study.task, options_key(study.options_of(row)), place.root)
    order = {f.name: i for i, f in enumerate(folds)}
    made = sorted(found, key=lambda c: (study.seeds.index(c.seed), order[c.fold]))
    refusals = tuple(c for c in made if isinstance(c, Refusal))
    if refusals:
        return RefusedRow(name=row.name, note=row.note, refusals=refusals, cells=len(made))
    return _row(study, place, row, [c for c in made if isinstance(c, Cell)], task, folds)


def _row(study: Study, place: Place, row: Row, cells: list[Cell], task: Task, folds: Sequence[Fold]) -> RowResult:
    home = place.of(options_key(study.options_of(row)))
    by_name = {f.name: f for f in folds}
    runs = [cells] if study.pairing == "one-to-one" else [[c for c in cells if c.seed == s] for s in study.seeds]
    scored = [_run_of(run, by_name, home) for run in runs]
    kept = cell_files(home, cells[0].key)
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


def _with_personal(result: RowResult, row: Row, task: Task, folds: dict[str, Fold], home: Path, n: int) -> RowResult:
    """The row with the table of its personal layers and their gain; the cells of a run are `n` after each other."""
    if row.personal is None:
        return result
    runs = []
    for start in range(0, len(result.cells), n):
        cells = result.cells[start : start + n]
        kept = [np.load(personal_file(home, c.key, row.personal)) for c in cells]
        tests = [folds[c.fold].test.take(k["index"]) for c, k in zip(cells, kept, strict=True)]
        runs.append(_joined([k["logits"] for k in kept], tests))
    n_groups = len(set().union(*(folds[c.fold].test.groups.tolist() for c in result.cells)))
    table, gain = summary(row.personal, task.score, task.metric, runs, n_groups)
    return replace(result, tables=(*result.tables, table), figures={**result.figures, GAIN: gain})


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
