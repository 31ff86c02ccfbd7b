"""Chains of steps: what is kept is taken again, and what a result depends on makes another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from host_tools.compress.guard import Guard
from host_tools.compress.known import Planned, plan_step
from host_tools.compress.soft_labels import read_soft_labels
from host_tools.compress.step import Candidate, Lab
from host_tools.measure.logits import network_logits
from host_tools.study import chains
from host_tools.study.chains import Chains
from host_tools.study.sources import source_digest
from host_tools.tasks.task import Fold
from tests.toy_task import Waves

MODULE = "tests.toy_task"


@dataclass(frozen=True, kw_only=True)
class Add:
    """A step that adds to one weight, and notes that it ran."""

    value: float
    ran: list[float]

    def apply(self, candidate: Candidate, lab: Lab) -> Candidate:
        self.ran.append(self.value)
        network = candidate.network
        with torch.no_grad():
            next(iter(network.parameters()))[0, 0, 0, 0] += self.value
        return candidate.then(network)


def planned(value: float, ran: list[float], guard: Guard | None = None) -> Planned:
    step = Add(value=value, ran=ran)
    return Planned(name="add", step=step, guard=guard, text=f"add {value} {guard}", module="tests.study.test_chains")


@pytest.fixture(scope="module")
def fold() -> Fold:
    return Waves().folds(None)[0]


def first_weight(network: torch.nn.Module) -> float:
    return float(next(iter(network.parameters())).detach().flatten()[0])


def make(fold: Fold, kept: Path, seed: int, steps: Sequence[Planned]) -> chains.Link:
    return Chains(Waves(), fold, MODULE, kept).make("student", seed, steps)


def test_finished_links_are_taken_again_and_only_new_ones_run(fold: Fold, tmp_path: Path) -> None:
    ran: list[float] = []
    first = make(fold, tmp_path, 0, [planned(1.0, ran), planned(2.0, ran)])
    again = make(fold, tmp_path, 0, [planned(1.0, ran), planned(2.0, ran)])
    assert ran == [1.0, 2.0]
    assert again.key == first.key
    assert first_weight(again.candidate.network) == first_weight(first.candidate.network)
    longer = make(fold, tmp_path, 0, [planned(1.0, ran), planned(2.0, ran), planned(4.0, ran)])
    assert ran == [1.0, 2.0, 4.0]
    assert first_weight(longer.candidate.network) == pytest.approx(first_weight(first.candidate.network) + 4.0)


def test_another_seed_setting_fold_or_teacher_is_another_model(fold: Fold, tmp_path: Path) -> None:
    ran: list[float] = []
    steps = [planned(1.0, ran)]
    base = make(fold, tmp_path, 0, steps)
    other_fold = Waves().folds(None)[1]
    keys = {
        base.key,
        make(fold, tmp_path, 1, steps).key,
        make(fold, tmp_path, 0, [planned(1.5, ran)]).key,
        make(other_fold, tmp_path, 0, steps).key,
        Chains(Waves(), fold, MODULE, tmp_path).make("student", 0, steps, [base]).key,
        Chains(Waves(), fold, MODULE, tmp_path).make("teacher", 0, steps, how="teacher").key,
    }
    assert len(keys) == 6


def test_test_examples_change_no_model(fold: Fold, tmp_path: Path) -> None:
    changed = replace(fold, test=fold.test.take(np.arange(10)))
    assert make(fold, tmp_path, 0, [planned(1.0, [])]).key == make(changed, tmp_path, 0, [planned(1.0, [])]).key


def test_a_refused_step_leaves_the_candidate_and_says_why(fold: Fold, tmp_path: Path) -> None:
    ran: list[float] = []
    kind = Guard(points=0.0, sensitivity=0.0)
    trained = make(fold, tmp_path, 0, [planned(1e-6, ran, kind)])
    assert trained.refused == ()
    broken = make(fold, tmp_path, 0, [planned(1e-6, ran, kind), planned(float("nan"), ran, kind)])
    assert len(broken.refused) >= 1
    assert "accuracy lost" in broken.refused[0]
    assert any(table.title == "guard" for table in broken.candidate.tables)
    # A step that spoils the network in place must not get past its guard either.
    assert np.isfinite(first_weight(broken.candidate.network))


def test_teachers_together_are_the_mean_of_their_probabilities(fold: Fold, tmp_path: Path) -> None:
    made = Chains(Waves(), fold, MODULE, tmp_path)
    links = [made.make("teacher", seed, [planned(0.5, [])], how="teacher") for seed in (0, 1)]
    x = fold.test.inputs
    whole = torch.softmax(torch.from_numpy(network_logits(made.together(links).candidate.network, x)), -1)
    parts = [torch.softmax(torch.from_numpy(network_logits(k.candidate.network, x)), -1) for k in links]
    torch.testing.assert_close(whole, (parts[0] + parts[1]) / 2, atol=1e-5, rtol=1e-4)
    assert made.together(links[:1]) is links[0]


def test_the_hash_of_code_covers_what_a_module_imports(tmp_path: Path) -> None:
    below, above = tmp_path / "below.py", tmp_path / "above.py"
    below.write_text("x = 1\n")
    above.write_text("from host_tools.compress import train\n")
    alone = source_digest(str(above))
    assert alone == source_digest(str(above))
    assert alone != source_digest(str(below))
    # The step `train` rests on the training loop: its digest covers that file.
    assert source_digest("host_tools.compress.train") != source_digest("host_tools.fit")
    assert source_digest("host_tools.compress.train") == source_digest("host_tools.compress.train", "host_tools.fit")


def test_soft_labels_are_kept_for_other_studies_and_anew_where_teachers_are_others(fold: Fold, tmp_path: Path) -> None:
    chains_here = Chains(Waves(), fold, MODULE, tmp_path / "models")
    short = {"epochs": 0.2}
    train, *taught = (
        plan_step({"do": do, "fit": short, **more}, do)
        for do, more in (
            ("train", {}),
            ("distill", {"labels": "stored"}),
            ("distill", {"labels": "stored", "weight": 1.0}),
        )
    )
    kept = tmp_path / "soft-labels" / f"{fold.name}.npz"
    for step, seed in zip(taught, (0, 1), strict=True):
        teacher = chains_here.make("teacher", seed, [train], how="teacher")
        student = chains_here.make("student", 0, [step], [teacher])
        said = read_soft_labels(kept, fold.train.inputs, 3)
        np.testing.assert_array_equal(said, [network_logits(teacher.candidate.network, fold.train.inputs)])
    named = {
        "do": "distill",
        "fit": short,
        "labels": "stored",
        "weight": 1.0,
        "file": str(kept.with_name("{fold}.npz")),
    }
    other = Chains(Waves(), fold, MODULE, tmp_path / "other").make("student", 0, [plan_step(named, "other")])
    of_one, of_other = (network_logits(x.candidate.network, fold.test.inputs) for x in (student, other))
    np.testing.assert_array_equal(of_one, of_other)
