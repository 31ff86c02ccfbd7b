"""The main recipe's `[data] noise`: none by default, refused without its files, and part of what models depend on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
import wfdb

from edge_runtime.contract.errors import SettingsError, SourceError
from host_tools.chain import Chain, Ticker, _key
from host_tools.data.examples import ChunkSampler, Sampling
from host_tools.data.nstdb import NAMES
from host_tools.data.sets import open_data_set
from host_tools.recipe import DataPart, Recipe

RECIPE = Recipe(schema=1, name="tiny")
NOISY = replace(RECIPE, data=DataPart(noise=0.5))
SAMPLING = Sampling(chunk_s=5.0, chunks=4)


@contextlib.contextmanager
def bar(text: str) -> Iterator[Ticker]:
    yield lambda done, total, note="": None


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "nstdb").mkdir()
    for i, name in enumerate(NAMES):
        signal = np.random.default_rng(i).integers(-400, 400, (7200, 2))
        wfdb.wrsamp(
            name, fs=360, units=["mV"] * 2, sig_name=["noise1", "noise2"], d_signal=signal, fmt=["212"] * 2,
            adc_gain=[200.0] * 2, baseline=[0] * 2, write_dir=str(tmp_path / "nstdb"),
        )  # fmt: skip
    return tmp_path


def chain(recipe: Recipe, root: Path | None) -> Chain:
    made = Chain(recipe, open_data_set("simulated", None), Path("unused"), bar, root)
    made._records = list(tiny_models.conditioned())
    return made


def drawn(recipe: Recipe, root: Path | None) -> list[torch.Tensor]:
    return [b.x for b in islice(chain(recipe, root)._sampler(SAMPLING, 5), 3)]


def test_without_noise_the_chunks_are_the_sampler_s_own(root: Path) -> None:
    wanted = islice(ChunkSampler(tiny_models.conditioned(), RECIPE.timing, 125, SAMPLING, 5), 3)
    for found in (drawn(RECIPE, None), drawn(RECIPE, root)):
        assert len(found) == 3
    assert all(torch.equal(x, b.x) for x, b in zip(drawn(RECIPE, root), wanted, strict=True))


def test_with_noise_about_its_share_of_them_is_disturbed(root: Path) -> None:
    pairs = zip(drawn(NOISY, root), drawn(RECIPE, root), strict=True)
    changed = [bool((a != b).any()) for x, y in pairs for a, b in zip(x, y, strict=True)]
    assert 2 <= sum(changed) <= 10  # of 12


def test_noise_that_is_not_there_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"data\.noise is 0\.5, and there is no data root"):
        chain(NOISY, None)
    with pytest.raises(SourceError, match=r"bw\.hea: no such file"):
        chain(NOISY, tmp_path)


def test_models_depend_on_the_noise_they_heard() -> None:
    noise = [np.zeros(4, np.float32), np.ones(4, np.float32)]
    keys = {_key(NOISY, [], []), _key(RECIPE, [], []), *(_key(NOISY, [], [n]) for n in noise)}
    assert len(keys) == 4


def test_more_students_leave_those_there_are_as_they_are() -> None:
    more = replace(RECIPE, student=replace(RECIPE.student, seeds=(0, 1, 2, 3)))
    other = replace(RECIPE, student=replace(RECIPE.student, dropout=RECIPE.student.dropout + 0.1))
    assert _key(more, [], []) == _key(RECIPE, [], []) != _key(other, [], [])
