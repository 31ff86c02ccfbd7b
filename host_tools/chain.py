"""The chain of models: teachers, students with and without them, pruned, INT8; every link kept on disk.

A chain that was interrupted goes on where it stopped: finished links lie in a folder whose name is a hash of the
recipe, of the records and of the code that learns from them.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from edge_runtime.contract import preprocess
from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array
from host_tools.compress.prune import prune_channels
from host_tools.compress.quantize import Scale, calibrate
from host_tools.data.examples import Batch, ChunkSampler, ConditionedRecord, Sampling, condition, with_teacher
from host_tools.data.noise_chunks import training_noise, with_noise
from host_tools.data.premature import with_premature_beats
from host_tools.data.records import EcgRecord
from host_tools.data.sets import ROOT_VARIABLE, DataSet
from host_tools.export.program import fold
from host_tools.fit import has_fast_bf16
from host_tools.measure.teacher import soft_labels
from host_tools.nets.beats import BeatNet
from host_tools.recipe import Recipe
from host_tools.training import Schedule, train


class Ticker(Protocol):
    """Progress of one long step."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Report."""


Bar = Callable[[str], AbstractContextManager[Ticker]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Models:
    """What the chain made.

    alone, distilled  one student per seed, in the recipe's order
    """

    teachers: tuple[BeatNet, ...]
    alone: tuple[BeatNet, ...]
    distilled: tuple[BeatNet, ...]
    pruned: BeatNet
    scales: dict[str, Scale]


class Chain:
    """Makes the models of one recipe, on the GPU where there is one.

    root  the data root, where a recipe asks for recorded noise
    """

    def __init__(self, recipe: Recipe, data: DataSet, models: Path, bar: Bar, root: Path | None = None) -> None:
        self._recipe, self._data, self._models, self._bar = recipe, data, models, bar
        self._noise = _noise(recipe, root)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._records: list[ConditionedRecord] = []

    @property
    def train_names(self) -> tuple[str, ...]:
        """Records the models learn from."""
        split = self._data.split
        held = self._recipe.data.hold_out == "validation"
        return split.train if held else (*split.train, *split.validation)

    @property
    def test_names(self) -> tuple[str, ...]:
        """Records the models are tested on."""
        return self._data.split.validation if self._recipe.data.hold_out == "validation" else self._data.split.test

    def make(self) -> Models:
        """Run the chain, or what is left of it."""
        r = self._recipe
        raw = self._load()
        self._work = self._models / f"{r.name}-{self._data.name}-{_key(r, raw, self._noise)}"
        self._work.mkdir(parents=True, exist_ok=True)
        teachers = tuple(self._teacher(seed) for seed in r.teacher.seeds)
        alone = tuple(self._student(seed, distilled=False) for seed in r.student.seeds)
        self._teach(teachers)
        distilled = tuple(self._student(seed, distilled=True) for seed in r.student.seeds)
        pruned = self._pruned(distilled[0], r.student.seeds[0])
        with self._bar("calibrate INT8 on training records") as tick:
            scales = calibrate(fold(pruned.trunk), self._calibration(raw), r.quantize)
            tick(1, 1)
        return Models(teachers=teachers, alone=alone, distilled=distilled, pruned=pruned, scales=scales)

    def _load(self) -> list[EcgRecord]:
        """Read, multiply and condition the training records."""
        r, names = self._recipe, self.train_names
        with self._bar("load and condition training records") as tick:
            raw = [self._data.load(name) for name in names]
            for i, record in enumerate(raw):
                self._records += [condition(v, r.timing, r.conditioning, s) for v, s in self._variants(record)]
                tick(i + 1, len(raw), record.name)
        return raw

    def _variants(self, record: EcgRecord) -> Iterator[tuple[EcgRecord, float]]:
        """The record at the recipe's speeds, and copies with artificial premature beats at speeds in between."""
        data = self._recipe.data
        for stretch in data.stretches:
            yield record, stretch
        number = self.train_names.index(record.name)
        for i in range(data.atrial):
            rng = np.random.default_rng([number, i])
            yield with_premature_beats(record, rng), float(rng.uniform(min(data.stretches), max(data.stretches)))

    def _calibration(self, raw: Sequence[EcgRecord]) -> list[Float32Array]:
        """The middle of each training record, conditioned."""
        r = self._recipe
        n = int(r.data.calibration_s * r.conditioning.rate_hz)
        signals = []
        for record in raw:
            x = condition(record, r.timing, r.conditioning).x[:, 0]
            middle = max(0, (len(x) - n) // 2)
            signals.append(np.ascontiguousarray(x[middle : middle + n]))
        return signals

    def _teacher(self, seed: int) -> BeatNet:
        part = self._recipe.teacher
        torch.manual_seed(seed)
        model = BeatNet(part.shape, self._recipe.timing, part.dropout)
        sampler = self._sampler(part.sampling, 1000 + seed)
        return self._trained(model, f"teacher-{seed}", f"train teacher (seed {seed})", part.schedule, sampler)

    def _student(self, seed: int, *, distilled: bool) -> BeatNet:
        part = self._recipe.student
        torch.manual_seed(seed)
        model = BeatNet(part.shape, self._recipe.timing, part.dropout)
        name, words = ("distilled", "distil student") if distilled else ("alone", "train student alone")
        sampler = self._sampler(part.sampling, 2000 + seed)
        return self._trained(
            model, f"{name}-{seed}", f"{words} (seed {seed})", part.schedule, sampler, distilled=distilled
        )

    def _pruned(self, student: BeatNet, seed: int) -> BeatNet:
        part = self._recipe.prune
        torch.manual_seed(seed)
        model = prune_channels(student.cpu(), part.channels)
        sampler = self._sampler(self._recipe.student.sampling, 3000 + seed)
        text = f"prune to {part.channels} channels and fine-tune"
        return self._trained(model, f"pruned-{seed}", text, part.schedule, sampler, distilled=True)

    def _sampler(self, sampling: Sampling, seed: int) -> Iterable[Batch]:
        r = self._recipe
        sampler = ChunkSampler(self._records, r.timing, r.conditioning.rate_hz, sampling, seed)
        return with_noise(sampler, self._noise, r.data.noise, r.timing, seed) if self._noise else sampler

    def _trained(
        self,
        model: BeatNet,
        name: str,
        text: str,
        schedule: Schedule,
        sampler: Iterable[Batch],
        *,
        distilled: bool = False,
    ) -> BeatNet:
        """Train, or take what an earlier run left."""
        place = self._work / f"{name}.pt"
        with self._bar(text) as tick:
            if place.exists():
                model.load_state_dict(torch.load(place, weights_only=True))
                tick(1, 1, "already done")
                return model.eval()
            how = self._recipe.distill if distilled else None
            schedule = replace(schedule, bf16=schedule.bf16 and has_fast_bf16())
            model = train(
                model.to(self._device),
                iter(sampler),
                schedule,
                how,
                lambda done, total, loss: tick(done, total, f"loss {loss:.3f}"),
            ).cpu()
            draft = place.with_suffix(".new")
            memory = io.BytesIO()  # a full disk is then an OSError as everywhere
            torch.save(model.state_dict(), memory)
            draft.write_bytes(memory.getbuffer())
            os.replace(draft, place)
        return model.eval()

    def _teach(self, teachers: Sequence[BeatNet]) -> None:
        """Store the teachers' soft labels with every training record."""
        for teacher in teachers:
            teacher.to(self._device)
        with self._bar("teachers label the training records") as tick:
            for i, record in enumerate(self._records):
                self._records[i] = with_teacher(record, *soft_labels(teachers, record))
                tick(i + 1, len(self._records), record.name)
        for teacher in teachers:
            teacher.cpu()


def _noise(recipe: Recipe, root: Path | None) -> list[Float32Array]:
    """Recorded noise to train with; none where the recipe asks for none."""
    if not recipe.data.noise:
        return []
    if root is None:
        raise SettingsError(
            f"data.noise is {recipe.data.noise:g}, and there is no data root; set {ROOT_VARIABLE} to the folder that "
            "holds nstdb/ (`vitaledge data fetch nstdb` downloads it)"
        )
    return training_noise(root, recipe.conditioning)


def _key(recipe: Recipe, records: Sequence[EcgRecord], noise: Sequence[Float32Array]) -> str:
    """What trained weights depend on: recipe, records, and the code that makes one out of the other."""
    # Every student is a file of its own: more of them change none of those there are.
    digest = hashlib.sha256(repr(replace(recipe, student=replace(recipe.student, seeds=(0,)))).encode())
    for record in records:
        digest.update(repr((record.name, record.rate_hz, record.lead_names)).encode())
        for values in (record.leads, record.beat_samples, record.beat_classes, record.masked):
            digest.update(np.ascontiguousarray(values).tobytes())
    for signal in noise:
        digest.update(signal.tobytes())
    host, contract = Path(__file__).parent, Path(preprocess.__file__).parent
    learning = (host / "data", host / "nets", host / "compress", contract)
    files = sorted(f for folder in learning for f in folder.glob("*.py"))
    for file in (*files, host / "training.py", Path(__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:10]
