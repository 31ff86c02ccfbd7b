"""Chains of steps on one fold and seed, every link kept on disk under a hash of all it depends on."""

from __future__ import annotations

import copy
import hashlib
import io
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from edge_runtime.contract.errors import EdgeError
from host_tools.compress.guard import judge
from host_tools.compress.known import Planned
from host_tools.compress.soft_labels import Keep
from host_tools.compress.step import Candidate, Lab
from host_tools.nets.ensemble import Ensemble
from host_tools.study.sources import source_digest
from host_tools.tasks.task import Examples, Fold, Task

SOFT_LABELS = "soft-labels"  # beside the folder of models; one file a fold


@dataclass(frozen=True, kw_only=True, eq=False)
class Link:
    """What a chain has reached.

    refused  why guards refused steps; the candidate is then that before them
    seconds  of work in this and all earlier steps
    key      names the link on disk
    """

    candidate: Candidate
    refused: tuple[str, ...]
    seconds: float
    key: str


class Chains:
    """Makes models of one task on one fold, or takes them from the folder `kept`."""

    def __init__(self, task: Task, fold: Fold, module: str, kept: Path) -> None:
        self._task, self._fold, self._kept = task, fold, kept
        self._base = f"{task.name} {_fold_digest(fold)} {source_digest(module, __name__)}"
        kept.mkdir(parents=True, exist_ok=True)

    def make(
        self, start: str, seed: int, steps: Sequence[Planned], teachers: Sequence[Link] = (), *, how: str = "student"
    ) -> Link:
        """Run `steps` from an untrained network of kind `start` (student or teacher).

        Raises EdgeError naming a step that refuses its settings, this model or these examples.
        """
        fit = self._task.teacher_fit if how == "teacher" else self._task.student_fit
        text = f"{self._base} {start} {seed} {fit!r} {[t.key for t in teachers]}"
        keys = [_hash(text)]
        for step in steps:
            keys.append(_hash(f"{keys[-1]} {step.text} {source_digest(step.module)}"))
        link, done = self._newest(keys, start, seed)
        if not steps:
            self._write(link)
        for step, key in zip(steps[done:], keys[done + 1 :], strict=True):
            link = self._advance(link, step, key, seed, fit, teachers)
            self._write(link)
        return link

    def together(self, links: Sequence[Link]) -> Link:
        """All teachers as one model; a single one as it is."""
        if len(links) == 1:
            return links[0]
        key = _hash(" ".join(x.key for x in links))
        if (self._kept / f"{key}.pt").exists():
            return _read(self._kept / f"{key}.pt", key)
        link = Link(
            candidate=Candidate(network=Ensemble([x.candidate.network for x in links]).eval()),
            refused=(),
            seconds=sum(x.seconds for x in links),
            key=key,
        )
        self._write(link)
        return link

    def _advance(self, link: Link, step: Planned, key: str, seed: int, fit: object, teachers: Sequence[Link]) -> Link:
        begun = time.monotonic()
        lab = Lab(
            task=self._task,
            fold=self._fold,
            seed=seed,
            how=fit,  # type: ignore[arg-type]
            teachers=[t.candidate.network for t in teachers],
            keep=Keep(
                path=self._kept.parent / SOFT_LABELS / f"{self._fold.name}.npz",
                said_by=_hash(" ".join(t.key for t in teachers)),
            ),
        )
        torch.manual_seed(seed)
        # Steps may train in place; what was before must stay whole for the guard and for rows that branch off.
        handed = replace(link.candidate, network=copy.deepcopy(link.candidate.network))
        refused = link.refused
        try:
            made = step.step.apply(handed, lab)
            verdict = None if step.guard is None else judge(step.guard, link.candidate, made, lab)
        except EdgeError as error:
            raise EdgeError(f"step {step.name!r}: {error}") from error
        if verdict is not None and verdict.reasons:
            refused = (*refused, *(f"{step.name}: {reason}" for reason in verdict.reasons))
            made = link.candidate.then(link.candidate.network, verdict.table)
        seconds = link.seconds + time.monotonic() - begun
        return Link(candidate=made, refused=refused, seconds=seconds, key=key)

    def _newest(self, keys: Sequence[str], start: str, seed: int) -> tuple[Link, int]:
        for done in range(len(keys) - 1, 0, -1):
            place = self._kept / f"{keys[done]}.pt"
            if place.exists():
                return _read(place, keys[done]), done
        torch.manual_seed(seed)
        network = self._task.teacher() if start == "teacher" else self._task.student()
        return Link(candidate=Candidate(network=network.eval()), refused=(), seconds=0.0, key=keys[0]), 0

    def _write(self, link: Link) -> None:
        c = link.candidate
        content = {
            "network": c.network,
            "graph": None if c.graph is None else c.graph.SerializeToString(),
            "tables": c.tables,
            "refused": link.refused,
            "seconds": link.seconds,
        }
        place = self._kept / f"{link.key}.pt"
        draft = place.with_suffix(f".{os.getpid()}.new")
        memory = io.BytesIO()  # a full disk is then an OSError as everywhere
        torch.save(content, memory)
        draft.write_bytes(memory.getbuffer())
        os.replace(draft, place)


def _read(place: Path, key: str) -> Link:
    # Written by this program for itself: networks whose layers were pruned are kept as objects, not as weights.
    content = torch.load(place, weights_only=False)
    network: nn.Module = content["network"]
    graph = None if content["graph"] is None else onnx.load_model_from_string(content["graph"])
    return Link(
        candidate=Candidate(network=network, graph=graph, tables=content["tables"]),
        refused=content["refused"],
        seconds=content["seconds"],
        key=key,
    )


def _fold_digest(fold: Fold) -> str:
    """What is learnt from and chosen by; the test examples change no model."""
    digest = hashlib.sha256()
    for part in (fold.train, fold.validation):
        for values in _arrays(part):
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _arrays(examples: Examples) -> list[np.ndarray]:
    found = [examples.inputs, examples.labels, examples.soft, examples.values]
    return [v for v in found if v is not None]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
