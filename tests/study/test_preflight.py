"""What a study refuses before it trains anything, naming the value."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array
from host_tools.export.plain import export_plain
from host_tools.study.place import Place
from host_tools.study.plan import Row, Study, TeacherPart
from host_tools.study.preflight import preflight, trial_inputs
from host_tools.study.run import run_study
from host_tools.tasks.task import Examples, Fold, check_folds
from tests.toy_task import SAMPLES, WaveNet, Waves


def study(*steps: dict[str, object], teacher: bool = True) -> Study:
    part = TeacherPart() if teacher else None
    return Study(schema=1, name="x", title="x", task="x", row=(Row(name="a", steps=steps),), teacher=part)


@pytest.fixture(scope="module")
def fold() -> Fold:
    return Waves().folds(None)[0]


def check(plan: Study, fold: Fold, task: Waves | None = None) -> None:
    preflight(plan, task or Waves(), [fold], list(plan.row))


def test_what_fits_passes(fold: Fold) -> None:
    check(study({"do": "train"}, {"do": "prune-channels", "rate": 0.5}, {"do": "quantize"}), fold)


def test_a_rate_that_empties_a_layer_is_refused_by_its_name(fold: Fold) -> None:
    with pytest.raises(SettingsError, match=r"row 'a', step 'prune-channels': layer '.*' has 8 channels; a rate of 1"):
        check(study({"do": "train"}, {"do": "prune-channels", "rate": 1.0}), fold)


HINT = {"kind": "hint", "student_layers": ["first"], "teacher_layers": ["second"]}
CANNOT_BE: dict[str, tuple[list[dict[str, object]], str]] = {
    # The network: `first` 8 x 2 x 7 weights, `second` 8 x 8 x 5, `last` 3 x 8; 456 in all.
    "a share of the weights that leaves none": (
        [{"do": "prune-weights", "rate": 0.99}],
        "step 'prune-weights': layer 'last' has 24 weights; a rate of 0.99 leaves none",
    ),
    "a share of one layer's weights that leaves none": (
        [{"do": "prune-weights", "rates": {"first": 0.999}}],
        "layer 'first' has 112 weights; a rate of 0.999 leaves none",
    ),
    "fewer weights than layers": (
        [{"do": "prune-weights", "by": "global", "rate": 0.996}],
        "a rate of 0.996 leaves 2 of 456 weights; 3 layers",
    ),
    "weights of a layer that is not there": (
        [{"do": "prune-weights", "rates": {"third": 0.5}}],
        "no layer 'third'; layers are first, second, last",
    ),
    "weights that go while it learns": (
        [{"do": "prune-gradual", "kind": "weights", "rate": 0.99}],
        "step 'prune-gradual': layer 'last' has 24 weights; a rate of 0.99 leaves none",
    ),
    "channels that go while it learns": (
        [{"do": "prune-gradual", "rate": 0.95}],
        "step 'prune-gradual': layer 'first' has 8 channels; a rate of 0.95 leaves none",
    ),
    "a scan of nothing": ([{"do": "prune-sensitive", "rates": [0.99]}], "rates: 0.99 leaves no layer a channel"),
    "the rest of what was pruned before": (
        [{"do": "prune-channels", "rate": 0.5}, {"do": "prune-channels", "rate": 0.9}],
        "layer 'first' has 4 channels; a rate of 0.9 leaves none",
    ),
    "a wide layer that is not there": (
        [{"do": "quantize", "keep_wide": ["third"]}],
        "step 'quantize': keep_wide names 'third'; layers are first, second, last",
    ),
    "a word for wide layers that is none": (
        [{"do": "train-quantized", "keep_wide": "frist"}],
        "step 'train-quantized': keep_wide is 'frist'; one of none, first",
    ),
    "no layer that is not wide": (
        [{"do": "quantize", "keep_wide": ["first", "second", "last"]}],
        "nothing is left to quantize",
    ),
    "a hint to a layer that is not there": (
        [{"do": "distill", "extra": [{**HINT, "student_layers": ["third"]}]}],
        "step 'distill': layer 'third' is not in the student",
    ),
    "a hint from a layer that is not there": (
        [{"do": "distill", "extra": [{**HINT, "teacher_layers": ["third"]}]}],
        "step 'distill': layer 'third' is not in teacher 1",
    ),
    "two steps that each write the file": (
        [{"do": "half"}, {"do": "quantize"}],
        "step 'quantize': the model is a file since step 'half'",
    ),
    "training of what is a file": (
        [{"do": "quantize"}, {"do": "train"}],
        "step 'train': the model is a file since step 'quantize'",
    ),
}


@pytest.mark.parametrize("kind", CANNOT_BE)
def test_steps_that_cannot_be_are_refused_by_their_names(kind: str, fold: Fold) -> None:
    steps, words = CANNOT_BE[kind]
    check(study({"do": "train"}, {"do": "distill", "extra": [HINT]}, {"do": "quantize", "keep_wide": ["last"]}), fold)
    with pytest.raises(SettingsError, match=f"^row 'a', .*{re.escape(words)}"):
        check(study({"do": "train"}, *steps), fold)


def test_teaching_without_a_teacher_is_refused(fold: Fold) -> None:
    with pytest.raises(SettingsError, match="row 'a', step 'prune-weights': teach is true; the study has no"):
        check(study({"do": "prune-weights", "teach": True}, teacher=False), fold)


def test_a_step_of_the_teacher_that_cannot_be_is_refused(fold: Fold) -> None:
    part = TeacherPart(steps=({"do": "train"}, {"do": "prune-channels", "rate": 1.0}))
    with pytest.raises(SettingsError, match=r"^teacher, step 'prune-channels': layer 'first' has 32 channels"):
        check(replace(study({"do": "train"}), teacher=part), fold)


def test_nothing_is_told_of_a_network_that_training_shapes(fold: Fold) -> None:
    steps = ({"do": "factorize"}, {"do": "quantize", "keep_wide": ["last.0"]})
    check(study({"do": "train"}, *steps), fold)


TRAP = """
from tests.toy_task import Waves

class Trap(Waves):
    def augment(self, x, generator):
        raise ZeroDivisionError("training began")
"""


@pytest.mark.parametrize("kind", [None, *CANNOT_BE])
def test_no_epoch_is_trained_before_a_refusal(kind: str | None, tmp_path: Path) -> None:
    (tmp_path / "trap.py").write_text(TRAP)
    plan = replace(study({"do": "train"}, *(CANNOT_BE[kind][0] if kind else ())), task=f"{tmp_path / 'trap.py'}:Trap")
    place = Place(root=None, out=tmp_path / "out")
    # The trap springs where nothing is to be refused.
    with pytest.raises(SettingsError if kind else ZeroDivisionError):
        run_study(plan, place, jobs=1, command="test", tick=lambda done, total, note: None)


class AccuracyAlone(Waves):
    def score(self, logits: Float32Array, examples: Examples) -> dict[str, float]:
        return {"accuracy": super().score(logits, examples)["accuracy"]}


def test_a_guard_on_a_figure_that_the_task_does_not_report_is_refused(fold: Fold) -> None:
    plan = study({"do": "train"}, {"do": "quantize", "guard": {"points": 1.0, "sensitivity": 2.0}})
    check(plan, fold)
    check(study({"do": "train", "guard": {"points": 1.0}}), fold, AccuracyAlone())
    with pytest.raises(SettingsError, match=r"row 'a', step 'quantize': guard.sensitivity is 2; .* are accuracy"):
        check(plan, fold, AccuracyAlone())


class FourClasses(Waves):
    def teacher(self) -> nn.Module:
        network = WaveNet(8)
        network.last = nn.Linear(8, 4)
        return network


def test_a_teacher_of_other_classes_is_refused(fold: Fold, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"the teacher network gives \(4,\) outputs per example; the task has 3"):
        check(study({"do": "train"}), fold, FourClasses())
    path = tmp_path / "teacher.onnx"
    path.write_bytes(export_plain(FourClasses().teacher(), (2, SAMPLES)).SerializeToString())
    with pytest.raises(SettingsError, match=r"teacher .*teacher.onnx gives \(4,\) outputs"):
        check(study({"do": "distill", "onnx": [str(path)]}), fold)


def test_distilling_without_a_teacher_is_refused(fold: Fold) -> None:
    with pytest.raises(SettingsError, match="row 'a', step 'distill': no teacher"):
        check(study({"do": "distill"}, teacher=False), fold)


def test_more_teachers_than_a_study_has_are_refused(fold: Fold) -> None:
    check(study({"do": "distill", "n_teachers": 1}), fold)
    with pytest.raises(SettingsError, match="row 'a', step 'distill': n_teachers is 2; the study has 1"):
        check(study({"do": "distill", "n_teachers": 2}), fold)


def holed(fold: Fold, name: str) -> Fold:
    """One of the part's examples, not of the first, misses a value."""
    part: Examples = getattr(fold, name)
    inputs = part.inputs.copy()
    inputs[100, 0, 3] = np.nan
    return replace(fold, **{name: replace(part, inputs=inputs)})


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_missing_values_that_a_network_does_not_fill_in_are_refused_in_every_fold(fold: Fold, name: str) -> None:
    later = replace(holed(fold, name), name="1")
    words = rf"fold 1: the student network gives no numbers for some {name}.* inputs \(1 of \d+ have missing values"
    with pytest.raises(SettingsError, match=words):
        preflight(study({"do": "train"}), Waves(), [fold, later], list(study({"do": "train"}).row))


class Filling(Waves):
    def student(self) -> nn.Module:
        return Filled()

    teacher = student


class Filled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = WaveNet(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(torch.where(torch.isnan(x), torch.zeros_like(x), x))


def test_a_network_that_fills_them_in_passes(fold: Fold) -> None:
    check(study({"do": "train"}), holed(holed(fold, "train"), "test"), Filling())


def test_every_channel_that_misses_values_is_tried() -> None:
    inputs = np.zeros((500, 3, 4), np.float32)
    inputs[:200, 0, 1] = np.nan
    inputs[300, 2, 0] = np.nan
    tried = trial_inputs(Examples(inputs=inputs, labels=np.zeros(500, np.int64), groups=np.array(["a"] * 500)))
    assert len(tried) == 64
    assert np.isnan(tried).any(axis=(0, 2)).tolist() == [True, False, True]


def part(labels: list[int], groups: list[str], size: int = 4) -> Examples:
    n = len(labels)
    return Examples(
        inputs=np.zeros((n, 2, size), np.float32), labels=np.array(labels, np.int64), groups=np.array(groups)
    )


def infinite(examples: Examples, value: float) -> Examples:
    inputs = examples.inputs.copy()
    inputs[2, 1, 3] = value
    return replace(examples, inputs=inputs)


GOOD = {
    "train": part([0, 1, 2], ["a", "b", "c"]),
    "validation": part([0, 1, 2], ["d", "d", "d"]),
    "test": part([2, 1, 0], ["e", "e", "e"]),
}
BAD = {
    "an empty part": ({"test": part([], [])}, "no test example"),
    "a class that nobody shows": ({"train": part([0, 1, 1], ["a", "b", "c"])}, "no train example of class fast"),
    "a class that nobody chooses by": (
        {"validation": part([1, 1, 2], ["d", "d", "d"])},
        "no validation example of class slow",
    ),
    "a class that nobody is tested on": ({"test": part([1, 1], ["e", "e"])}, "no test example of class slow, fast"),
    "a label beyond the classes": (
        {"validation": part([0, 1, 3], ["d", "d", "d"])},
        "validation labels reach 3; 0 to 2 wanted",
    ),
    "somebody in two parts": ({"test": part([0, 1, 2], ["a", "e", "e"])}, "a is in train and in test"),
    "another shape": ({"test": part([0, 1, 2], ["e", "e", "e"], size=5)}, r"test inputs are float32 \(2, 5\)"),
    "labels without inputs": ({"test": replace(GOOD["test"], labels=np.array([1, 1]))}, "3 test inputs, 2 labels"),
    "an infinite test input": ({"test": infinite(GOOD["test"], np.inf)}, r"test input 2 holds inf at \(1, 3\); finite"),
    "an infinite input": ({"train": infinite(GOOD["train"], -np.inf)}, r"train input 2 holds -inf at \(1, 3\); finite"),
}


def test_bins_of_a_number_need_not_all_occur() -> None:
    soft = [
        replace(p, soft=np.full((len(p), 3), 1 / 3, np.float32))
        for p in (GOOD["train"], part([1], ["d"]), part([1], ["e"]))
    ]
    check_folds(Waves(), [Fold(name="0", train=soft[0], validation=soft[1], test=soft[2])])


@pytest.mark.parametrize("kind", BAD)
def test_folds_that_cannot_be_learnt_from_are_refused(kind: str) -> None:
    parts, words = BAD[kind]
    check_folds(Waves(), [Fold(name="0", **GOOD)])
    with pytest.raises(SettingsError, match=words):
        check_folds(Waves(), [Fold(name="0", **{**GOOD, **parts})])
