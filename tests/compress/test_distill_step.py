"""Steps `distill` and `mutual` on tasks small enough to train in a moment."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from toy_task import Waves

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.strict import build
from host_tools.compress.distill_step import Distill
from host_tools.compress.extras import Extra
from host_tools.compress.mutual import Mutual
from host_tools.compress.soft_labels import soft_labels_of, write_soft_labels
from host_tools.compress.step import Candidate, Lab, training_set
from host_tools.compress.train import Train
from host_tools.export.plain import export_plain
from host_tools.fit import Fit, Minibatch
from host_tools.tasks.task import Examples, Fold

SHORT = Fit(epochs=1, batch=32, learning_rate=1e-2, mean_decay=0.5, bf16=False)
TASK = Waves(width=3)
FOLD = TASK.folds(None)[0]
HINT = Extra(kind="hint", student_layers=("first", "second"), teacher_layers=("first", "second"))
ATTENTION = Extra(kind="attention", weight=5.0, student_layers=("second",), teacher_layers=("second",))
RELATIONS = Extra(kind="rkd")


def new(seed: int, kind: str = "student") -> nn.Module:
    torch.manual_seed(seed)
    return getattr(TASK, kind)().eval()


def lab(*teachers: nn.Module, task: Waves = TASK, fold: Fold = FOLD) -> Lab:
    return Lab(task=task, fold=fold, seed=3, how=SHORT, teachers=teachers)


def trained(step: Distill | Train | Mutual, where: Lab) -> dict[str, torch.Tensor]:
    return step.apply(Candidate(network=new(0)), where).network.state_dict()


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=tolerance, rtol=0.0, msg=lambda m, n=name: f"{n}: {m}")


def differ(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return any(not torch.allclose(v, other[k], atol=1e-3) for k, v in one.items())


def batch_of(n: int, soft: torch.Tensor | None = None) -> Minibatch:
    examples = training_set(FOLD.train)
    index = torch.arange(0, 2 * n, 2)
    return Minibatch(x=examples.inputs[index], labels=examples.labels[index], soft=soft, index=index)


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
WRONG_CLASSES = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))


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


# Mutual learning


@pytest.mark.parametrize("peer", ["student", "teacher"])
def test_mutual_learning_trains_both_and_the_student_comes_out(peer: str) -> None:
    step, where = Mutual(peer=peer, fit=replace(SHORT, epochs=8)), lab()
    student = new(0)
    objective = step.objective(student, where)
    assert objective.peer.first.out_channels == (12 if peer == "teacher" else 3)
    x, labels = torch.from_numpy(FOLD.train.inputs), FOLD.train.labels

    def accuracy(network: nn.Module) -> float:
        with torch.no_grad():
            return float(np.mean(network.eval()(x).argmax(1).numpy() == labels))

    before = accuracy(student), accuracy(objective.peer)
    where.fit(student, objective, step.fit)
    assert accuracy(student) > before[0] + 0.1
    assert accuracy(objective.peer) > before[1] + 0.1
    assert_same(student.state_dict(), trained(step, where))


def test_what_networks_tell_each_other_are_constants() -> None:
    """CE + KL(other || self) for each, by autograd over the two losses apart; T^2 scales as in distillation."""
    step = Mutual(temperature=2.0, weight=0.5)
    student, batch = new(0), batch_of(16)
    objective = step.objective(student, lab())
    peer = copy.deepcopy(objective.peer.eval())
    objective.loss(student, batch).backward()
    for learner, other, found in ((new(0), peer, student), (copy.deepcopy(peer), new(0), objective.peer)):
        with torch.no_grad():
            p = (other(batch.x) / 2).softmax(1)
        z = learner(batch.x)
        kl = nn.functional.kl_div((z / 2).log_softmax(1), p, reduction="batchmean")
        (nn.functional.cross_entropy(z, batch.labels) + 0.5 * 4.0 * kl).backward()
        for mine, wanted in zip(found.parameters(), learner.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, wanted.grad, atol=1e-6, rtol=1e-4)


def test_two_students_begin_differently_and_the_same_each_time() -> None:
    peers = [Mutual().objective(new(0), replace(lab(), seed=0)).peer.state_dict() for _ in range(2)]
    assert_same(*peers)
    assert differ(peers[0], new(0).state_dict())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"temperature": 0.0}, "temperature is 0.0; more than 0 wanted"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"weight": -1.0}, "weight is -1.0; 0 or more wanted"),
    ],
)
def test_mutual_learning_refuses_what_the_paper_has_not(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Mutual(**wrong)


def test_mutual_learning_refuses_a_network_of_other_classes() -> None:
    with pytest.raises(SettingsError, match=r"the student gives \(5,\) outputs"):
        Mutual().apply(Candidate(network=WRONG_CLASSES), lab())


# From end to end: the best possible teacher, few and noisy labels


class Clouds(Waves):
    """Three Gaussian clouds in eight dimensions; a third of the few training labels is wrong."""

    name = "clouds"

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.centres = 1.2 * rng.standard_normal((3, 8))
        self._fold = Fold(
            name="0",
            train=self._clouds(rng, 60, 1 / 3),
            validation=self._clouds(rng, 30, 0.0),
            test=self._clouds(rng, 2000, 0.0),
        )

    def _clouds(self, rng: np.random.Generator, n: int, wrong: float) -> Examples:
        true = rng.integers(3, size=n)
        x = self.centres[true] + rng.standard_normal((n, 8))
        labels = np.where(rng.random(n) < wrong, (true + rng.integers(1, 3, size=n)) % 3, true)
        return Examples(inputs=x.astype(np.float32), labels=labels, groups=np.arange(n).astype(str))

    def folds(self, root: Path | None) -> Sequence[Fold]:
        """One."""
        return [self._fold]

    def teacher(self) -> nn.Module:
        """Bayes' rule: logits m x - |m|^2 / 2 of each centre m, the true posterior under equal priors."""
        rule = nn.Linear(8, 3)
        with torch.no_grad():
            rule.weight.copy_(torch.from_numpy(self.centres))
            rule.bias.copy_(torch.from_numpy(-0.5 * (self.centres**2).sum(1)))
        return rule.eval()

    def student(self) -> nn.Module:
        """One hidden layer."""
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def accuracies(step: Distill | Train) -> np.ndarray:
    """On test, of five draws of the clouds."""
    found = []
    for seed in range(5):
        task = Clouds(seed)
        fold, how = task.folds(None)[0], replace(SHORT, epochs=20, batch=20)
        torch.manual_seed(seed)
        network = step.apply(
            Candidate(network=task.student()),
            Lab(task=task, fold=fold, seed=seed, how=how, teachers=(task.teacher(),)),
        ).network
        with torch.no_grad():
            said = network(torch.from_numpy(fold.test.inputs)).argmax(1).numpy()
        found.append(np.mean(said == fold.test.labels))
    return np.array(found)


@pytest.fixture(scope="module")
def alone() -> np.ndarray:
    return accuracies(Train())


@pytest.mark.parametrize("method", ["ce+a*kl", "(1-a)*ce+a*t2*kl", "dkd"])
def test_with_few_and_wrong_labels_a_distilled_student_beats_one_alone(method: str, alone: np.ndarray) -> None:
    gains = accuracies(Distill(method=method, weight=0.9)) - alone
    assert min(gains) > 0.0
    assert np.mean(gains) > 0.02
