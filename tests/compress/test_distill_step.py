"""Step `distill` on a task small enough to train in a moment."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from toy_task import Waves
from wave_lab import FOLD, SHORT, WRONG_CLASSES, assert_same, batch_of, differ, lab, new, trained

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.strict import build
from host_tools.compress.distill_step import Distill
from host_tools.compress.extras import Extra
from host_tools.compress.soft_labels import Keep, read_soft_labels, soft_labels_of, write_soft_labels
from host_tools.compress.step import Candidate
from host_tools.compress.train import Train
from host_tools.export.plain import export_plain

HINT = Extra(kind="hint", student_layers=("first", "second"), teacher_layers=("first", "second"))
ATTENTION = Extra(kind="attention", weight=5.0, student_layers=("second",), teacher_layers=("second",))
RELATIONS = Extra(kind="rkd")


@pytest.mark.parametrize("method", ["ce+a*kl", "(1-a)*ce+a*t2*kl", "dkd"])
def test_stored_labels_teach_what_online_labels_do_without_augmentation(method: str) -> None:
    teachers = new(1, "teacher"), new(2, "teacher")
    online, stored = (trained(Distill(method=method, labels=x), lab(*teachers)) for x in ("online", "stored"))
    assert_same(online, stored, 1e-4)
    assert differ(online, trained(Train(), lab()))


class Shifted(Waves):
    """Waves that training sees shifted by a quarter."""

    def augment(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Another place."""
        return x.roll(8, -1) * 1.5


def test_with_augmentation_online_teachers_see_what_the_student_sees() -> None:
    teacher, task = new(1, "teacher"), Shifted(width=3)
    seen: list[torch.Tensor] = []
    handle = teacher.register_forward_pre_hook(lambda layer, x: seen.append(x[0].clone()))
    for labels, wanted in (
        ("online", task.augment(torch.from_numpy(FOLD.train.inputs), torch.Generator())),
        ("stored", torch.from_numpy(FOLD.train.inputs)),
    ):
        seen.clear()
        Distill(labels=labels).apply(Candidate(network=new(0)), lab(teacher, task=task))
        known = {row.numpy().tobytes() for row in wanted}
        assert seen[1:]  # the first is the trial
        assert all(row.numpy().tobytes() in known for x in seen[1:] for row in x)
    handle.remove()


def test_the_teacher_stays_as_it_was_in_eval_mode_without_gradients() -> None:
    teacher = new(1, "teacher").train()
    before = copy.deepcopy(teacher.state_dict())
    trained(Distill(extra=(HINT, ATTENTION, RELATIONS)), lab(teacher))
    assert_same(teacher.state_dict(), before)
    assert all(p.grad is None for p in teacher.parameters())
    assert not any(layer._forward_hooks for layer in teacher.modules())


def test_twice_the_same_teacher_teaches_like_one() -> None:
    teacher = new(1, "teacher")
    step = Distill(extra=(ATTENTION, RELATIONS), temperature=4.0)
    assert_same(trained(step, lab(teacher, teacher)), trained(step, lab(teacher)), 1e-4)


def test_with_no_weight_on_the_teacher_labels_alone_are_learnt() -> None:
    assert_same(trained(Distill(weight=0.0), lab(new(1, "teacher"))), trained(Train(), lab()), 1e-6)


def test_soft_labels_of_the_task_are_the_label_loss() -> None:
    """(1 - a) CE + a T^2 KL by numpy, CE being that of the task's own distribution."""
    soft = torch.softmax(torch.randn(8, 3, generator=torch.Generator().manual_seed(5)), -1)
    student, teacher, batch = new(0), new(1, "teacher"), batch_of(8, soft)
    objective = Distill(weight=0.3, temperature=2.0).objective(student, [teacher], lab(teacher))
    with torch.no_grad():
        z, v = student(batch.x).numpy().astype(float), teacher(batch.x).numpy().astype(float)
        found = objective.loss(student, batch).item()

    def log_p(x: np.ndarray) -> np.ndarray:
        return x - np.log(np.exp(x).sum(1, keepdims=True))

    ce = -(soft.numpy() * log_p(z)).sum(1)
    kl = (np.exp(log_p(v / 2)) * (log_p(v / 2) - log_p(z / 2))).sum(1)
    assert found == pytest.approx(np.mean(0.7 * ce + 0.3 * 4.0 * kl), rel=1e-5)


def test_adapters_learn_along_and_do_not_come_out() -> None:
    teacher = new(1, "teacher")
    objective = Distill(extra=(HINT,)).objective(new(0), [teacher], lab(teacher))
    helpers = objective.helpers()
    before = copy.deepcopy(helpers.state_dict())
    assert [tuple(p.shape) for p in helpers.parameters()] == [(12, 3, 1, 1), (12,)] * 2
    network = lab(teacher).fit(new(0), objective)
    assert all(differ({k: v}, {k: before[k]}) for k, v in helpers.state_dict().items())
    assert network.state_dict().keys() == new(0).state_dict().keys()
    assert not any(layer._forward_hooks for layer in network.modules())


@pytest.mark.parametrize("extra", [HINT, ATTENTION, RELATIONS], ids=lambda e: e.kind)
def test_an_extra_brings_the_student_nearer_to_its_teacher(extra: Extra) -> None:
    """By the extra's own loss on a fixed batch, against training that has all but the extra; adapters solved anew."""
    teacher, batch = new(1, "teacher"), batch_of(60)
    heavy = replace(extra, weight=20.0)
    rests = []
    for extras in ((heavy,), ()):
        student = Distill(extra=extras, weight=0.0, fit=replace(SHORT, epochs=6)).apply(
            Candidate(network=new(0)), lab(teacher)
        )
        with torch.no_grad():
            objective = Distill(extra=(extra,)).objective(student.network, [teacher], lab(teacher))
            rests.append(rest_of(extra, student.network, teacher, batch.x, objective.extras[0][0]))
    assert rests[0] < 0.9 * rests[1]


def rest_of(extra: Extra, student: nn.Module, teacher: nn.Module, x: torch.Tensor, loss: nn.Module) -> float:
    """The extra loss; of hints, what linear least squares leaves."""
    from host_tools.compress.features import run

    ours, theirs = run(student, x, extra.student_layers), run(teacher, x, extra.teacher_layers)
    if extra.kind != "hint":
        return float(loss(ours, theirs))
    rest = 0.0
    for s, t in extra.pairs():
        a = ours[s].movedim(1, -1).reshape(-1, ours[s].shape[1]).numpy()
        b = theirs[t].movedim(1, -1).reshape(-1, theirs[t].shape[1]).numpy()
        a = np.concatenate([a, np.ones((len(a), 1))], 1)
        rest += float(np.mean((a @ np.linalg.lstsq(a, b, rcond=None)[0] - b) ** 2))
    return rest


def test_the_same_seed_gives_the_same_student() -> None:
    teacher, made = new(1, "teacher"), []
    for n in (0, 17):
        student = Candidate(network=new(0))
        torch.rand(n)  # whatever happened in between
        made.append(Distill(extra=(HINT,)).apply(student, lab(teacher)).network.state_dict())
    assert_same(*made)


def test_an_onnx_file_teaches_like_the_network_it_was_made_from(tmp_path: Path) -> None:
    teacher = new(1, "teacher")
    onnx.save(export_plain(teacher, FOLD.train.inputs.shape[1:]), tmp_path / "teacher.onnx")
    step = Distill(onnx=(str(tmp_path / "teacher.onnx"),))
    assert_same(trained(step, lab()), trained(Distill(), lab(teacher)), 1e-3)


def test_soft_labels_in_a_file_teach_like_the_teachers_that_said_them(tmp_path: Path) -> None:
    teachers, x = [new(1, "teacher"), new(2, "teacher")], FOLD.train.inputs
    write_soft_labels(tmp_path / f"{FOLD.name}-3.npz", soft_labels_of(teachers, x), x)
    step = Distill(labels="stored", file=str(tmp_path / "{fold}-{seed}.npz"))
    assert_same(trained(step, lab()), trained(Distill(labels="stored"), lab(*teachers)))
    with pytest.raises(SettingsError, match="made for inputs"):
        step.apply(Candidate(network=new(0)), lab(fold=replace(FOLD, train=FOLD.validation)))


def test_a_step_knows_the_content_of_its_files(tmp_path: Path) -> None:
    path = tmp_path / "0.npz"
    steps = []
    for content in (b"one", b"one", b"two"):
        path.write_bytes(content)
        steps.append(repr(Distill(labels="stored", file=str(tmp_path / "{fold}.npz"))))
    assert steps[0] == steps[1] != steps[2]
    assert repr(Distill()) == repr(Distill())


def test_a_recipe_combines_logits_and_extras() -> None:
    table = {
        "method": "dkd",
        "beta": 2,
        "labels": "stored",
        "loss": {"kind": "focal"},
        "fit": {"epochs": 2},
        "extra": [
            {"kind": "hint", "weight": 3, "student_layers": ["first"], "teacher_layers": ["first"]},
            {"kind": "rkd", "angle": 0.0},
        ],
    }
    step = build(Distill, table, "row 1", SettingsError)
    assert (step.method, step.beta, step.loss.kind, step.fit.epochs) == ("dkd", 2.0, "focal", 2)
    assert step.extra[0] == replace(HINT, weight=3.0, student_layers=("first",), teacher_layers=("first",))
    for wrong, words in (
        ({"extra": [{"kind": "hints"}]}, r"row 1\.extra\[0\]\.kind is 'hints'; one of 'hint'"),
        ({"temperature": 0}, r"row 1: temperature is 0\.0"),
        ({"content": "x"}, "row 1: unknown key 'content'"),
    ):
        with pytest.raises(SettingsError, match=words):
            build(Distill, wrong, "row 1", SettingsError)


TYPO = ("first", "thrid")


@pytest.mark.parametrize(
    ("step", "teachers", "words"),
    [
        (Distill(), (), "waves: no teacher"),
        (Distill(labels="stored"), (), "waves: no teacher"),
        (Distill(), (WRONG_CLASSES,), r"teacher 1 gives \(5,\) outputs per example; the task has 3 classes"),
        (Distill(extra=(replace(HINT, student_layers=TYPO),)), (None,), "'thrid' is not in the student; of"),
        (Distill(extra=(replace(HINT, teacher_layers=TYPO),)), (None,), "'thrid' is not in teacher 1; of"),
        (Distill(extra=(replace(ATTENTION, student_layers=("last",)),)), (None,), "two places wanted"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_training(
    step: Distill, teachers: Sequence[nn.Module | None], words: str
) -> None:
    student = new(0)
    before = copy.deepcopy(student.state_dict())
    where = replace(lab(*(t or new(1, "teacher") for t in teachers)), tick=lambda *_: pytest.fail("it trained"))
    with pytest.raises(SettingsError, match=words):
        step.apply(Candidate(network=student), where)
    assert_same(student.state_dict(), before)


def test_files_that_are_not_there_are_refused_when_the_recipe_is_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"\{fold\}\.npz: no such file of soft labels"):
        Distill(labels="stored", file=str(tmp_path / "{fold}.npz"))
    with pytest.raises(SettingsError, match=r"none\.onnx: cannot be read"):
        Distill(onnx=(str(tmp_path / "none.onnx"),))
    with pytest.raises(SettingsError, match='labels = "stored" wanted with it'):
        Distill(file="soft.npz")


def test_a_student_of_other_classes_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"the student gives \(5,\) outputs per example; the task has 3 classes"):
        Distill().apply(Candidate(network=WRONG_CLASSES), lab(new(1, "teacher")))


def test_exported_teachers_teach_like_the_networks() -> None:
    teachers = new(1, "teacher"), new(2, "teacher")
    assert_same(trained(Distill(teachers_as="onnx"), lab(*teachers)), trained(Distill(), lab(*teachers)), 1e-3)


def test_only_the_first_teachers_teach_where_a_recipe_says_how_many() -> None:
    first, second = new(1, "teacher"), new(2, "teacher")
    assert_same(trained(Distill(n_teachers=1), lab(first, second)), trained(Distill(), lab(first)))
    assert differ(trained(Distill(n_teachers=2), lab(first, second)), trained(Distill(), lab(first)))
    for wrong, words in ((-1, "n_teachers is -1; 1 or more"), (3, "n_teachers is 3; the recipe has 2")):
        with pytest.raises(SettingsError, match=words):
            trained(Distill(n_teachers=wrong), lab(first, second))


def test_what_teachers_say_is_kept_once_and_asked_again_of_other_teachers(tmp_path: Path) -> None:
    teachers, x, path = [new(1, "teacher"), new(2, "teacher")], FOLD.train.inputs, tmp_path / "soft" / "0.npz"
    where, step = replace(lab(*teachers), keep=Keep(path=path, said_by="one")), Distill(labels="stored")
    assert_same(trained(step, where), trained(step, lab(*teachers)))
    np.testing.assert_array_equal(read_soft_labels(path, x, 3), soft_labels_of(teachers, x))
    # A file that other words stand in shows which of both is learnt from.
    write_soft_labels(path, -soft_labels_of(teachers, x), x, "one")
    assert differ(trained(step, where), trained(step, lab(*teachers)))
    assert_same(trained(step, replace(where, keep=Keep(path=path, said_by="two"))), trained(step, lab(*teachers)))
    assert_same(trained(replace(step, n_teachers=1), where), trained(step, lab(teachers[0])))
    path.write_bytes(b"cut off")
    assert_same(trained(step, where), trained(step, lab(*teachers)))
    assert [p.name for p in path.parent.iterdir()] == ["0.npz"]
