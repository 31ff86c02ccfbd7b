"""Hints, attention and relations against loops in numpy and against what each is blind to."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.extras import Extra, ExtraLoss
from host_tools.compress.features import LOGITS, probe, run
from host_tools.compress.hints import adapter, attention_loss, hint_loss
from host_tools.compress.relations import angle_loss, distance_loss


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def huber(difference: float) -> float:
    """Park et al. 2019, equation 6."""
    return difference**2 / 2 if abs(difference) <= 1 else abs(difference) - 0.5


def test_distances_are_those_of_the_paper() -> None:
    """Equations 4 to 6, over all pairs."""
    student, teacher = draw(7, 3).numpy(), 5 * draw(7, 6, seed=1).numpy()
    pairs = list(itertools.permutations(range(7), 2))

    def scaled(e: np.ndarray) -> list[float]:
        d = [float(np.linalg.norm(e[i] - e[j])) for i, j in pairs]
        return [x / (sum(d) / len(d)) for x in d]

    wanted = np.mean([huber(a - b) for a, b in zip(scaled(student), scaled(teacher), strict=True)])
    found = distance_loss(torch.from_numpy(student), torch.from_numpy(teacher))
    assert found.item() == pytest.approx(wanted, rel=1e-5)


def test_angles_are_those_of_the_paper() -> None:
    """Equations 7 and 8, over all triplets of different examples."""
    student, teacher = draw(6, 3).numpy(), 5 * draw(6, 5, seed=1).numpy()

    def cosine(e: np.ndarray, i: int, j: int, k: int) -> float:
        a, b = e[i] - e[j], e[k] - e[j]
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    wanted = np.mean([huber(cosine(student, *t) - cosine(teacher, *t)) for t in itertools.permutations(range(6), 3)])
    found = angle_loss(torch.from_numpy(student), torch.from_numpy(teacher))
    assert found.item() == pytest.approx(wanted, rel=1e-5)


def test_relations_are_blind_to_rotation_shift_and_scale() -> None:
    e = draw(20, 4)
    rotation, _ = torch.linalg.qr(draw(4, 4, seed=1))
    moved = 3.0 * e @ rotation + 10.0
    assert angle_loss(moved, e).item() == pytest.approx(0.0, abs=1e-9)
    assert distance_loss(moved, e).item() == pytest.approx(0.0, abs=1e-9)
    bent = e * torch.tensor([1.0, 3.0, 1.0, 1.0])
    assert angle_loss(bent, e).item() > 1e-3
    assert distance_loss(bent, e).item() > 1e-3


def test_the_same_example_twice_leaves_gradients_numbers() -> None:
    e = draw(6, 4)
    student = torch.cat([e, e[:2]]).requires_grad_()
    teacher = torch.cat([draw(6, 5, seed=1), draw(6, 5, seed=1)[:2]])
    (distance_loss(student, teacher) + angle_loss(student, teacher)).backward()
    assert torch.isfinite(student.grad).all()
    assert 0 < student.grad.abs().max() < 10


def test_a_student_that_says_the_same_of_all_has_no_relations_to_follow() -> None:
    """Examples apart by the rounding of float32 lie in one place."""
    student = (1.0 + 1e-7 * draw(9, 5, seed=1)).requires_grad_()
    assert len(student.unique()) > 1
    (distance_loss(student, draw(9, 4)) + angle_loss(student, draw(9, 4))).backward()
    assert torch.equal(student.grad, torch.zeros(9, 5))


@pytest.mark.parametrize("n", [1, 2])
def test_a_batch_without_a_triplet_teaches_nothing_and_breaks_nothing(n: int) -> None:
    student = torch.ones(n, 3, requires_grad=True)
    (distance_loss(student, draw(1, 3).expand(n, 3)) + angle_loss(student, draw(n, 3))).backward()
    assert torch.equal(student.grad, torch.zeros(n, 3))


def test_attention_is_that_of_the_paper() -> None:
    """Zagoruyko and Komodakis 2017, equation 2: sums of squares over channels, divided by their length."""
    student, teacher = draw(4, 3, 2, 5).numpy(), draw(4, 7, 2, 5, seed=1).numpy()
    distances = []
    for s, t in zip(student, teacher, strict=True):
        ours, theirs = (sum(c**2 for c in f).ravel() for f in (s, t))
        distances.append(np.sum((ours / np.linalg.norm(ours) - theirs / np.linalg.norm(theirs)) ** 2))
    found = attention_loss(torch.from_numpy(student), torch.from_numpy(teacher))
    assert found.item() == pytest.approx(np.mean(distances), rel=1e-5)


def test_attention_is_blind_to_scale_and_channels_and_sees_places() -> None:
    maps = draw(4, 3, 10)
    assert attention_loss(-7.0 * maps, maps).item() == pytest.approx(0.0, abs=1e-10)
    assert attention_loss(torch.cat([maps, maps], 1), maps).item() == pytest.approx(0.0, abs=1e-10)
    assert attention_loss(maps.flip(-1), maps).item() > 0.01


def test_maps_of_a_single_place_have_no_attention() -> None:
    with pytest.raises(SettingsError, match="two places wanted"):
        attention_loss(draw(4, 3), draw(4, 3, 10))


def test_sizes_are_matched_by_averages() -> None:
    """Twelve places against four: means of three."""
    student, teacher = draw(2, 3, 12), draw(2, 3, 4, seed=1)
    wanted = np.mean((student.numpy().reshape(2, 3, 4, 3).mean(3) - teacher.numpy()) ** 2)
    assert hint_loss(student, teacher, nn.Identity()).item() == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((64, 4), (64, 9)), ((32, 4, 12), (32, 6, 4)), ((16, 4, 1, 12), (16, 6, 12)), ((16, 4, 6, 6), (16, 5, 3, 3))],
    ids=["vectors", "sequences", "a lifted sequence", "images"],
)
def test_an_adapter_solves_hints_that_are_linear_in_the_student(
    student: tuple[int, ...], teacher: tuple[int, ...]
) -> None:
    """The least-squares solution has no rest where the teacher mixes the student's channels at each place."""
    ours = draw(*student)
    torch.manual_seed(0)
    mixing, adapt = adapter(ours, torch.zeros(teacher)), adapter(ours, torch.zeros(teacher))
    with torch.no_grad():
        maps = ours.reshape(*student[:2], *((1,) * (4 - len(student))), *student[2:])
        size = (1,) * (4 - len(teacher)) + teacher[2:]
        theirs = nn.functional.adaptive_avg_pool2d(mixing(maps), size[-2:]).reshape(teacher)
    assert hint_loss(ours, theirs, adapt).item() > 0.05
    optimizer = torch.optim.LBFGS(adapt.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = hint_loss(ours, theirs, adapt)
        loss.backward()
        return loss.item()

    optimizer.step(closure)
    assert hint_loss(ours, theirs, adapt).item() < 1e-6


def net(in_place: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=in_place), nn.Linear(5, 3))


def test_features_are_what_layers_gave_and_hooks_are_gone() -> None:
    network, x = net(in_place=True), draw(6, 4)
    found = run(network, x, ("0", "1", LOGITS))
    torch.testing.assert_close(found["0"], network[0](x))
    assert found["0"].min() < 0  # before the activation that works in place
    torch.testing.assert_close(found["1"], found["0"].relu())
    torch.testing.assert_close(found[LOGITS], network(x))
    assert not any(layer._forward_hooks for layer in network.modules())


def test_hooks_are_gone_after_a_failure() -> None:
    network = net()
    with pytest.raises(RuntimeError):
        run(network, draw(6, 7), ("0",))
    assert not any(layer._forward_hooks for layer in network.modules())


def test_a_trial_changes_no_statistics_and_no_mode() -> None:
    network = nn.Sequential(nn.BatchNorm1d(4), net()).train()
    network[1].eval()  # frozen
    before = {k: v.clone() for k, v in network.state_dict().items()}
    probe(network, draw(6, 4), ("0",), "the student")
    assert [layer.training for layer in (network, *network)] == [True, True, False]
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


class Recurrent(nn.Module):
    """A layer with two outputs, and one that nobody calls."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 3, batch_first=True)
        self.idle = nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gru(x)[0][:, -1]


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("grx", "layer 'grx' is not in the student; of its 2 layers, the nearest: gru, idle"),
        ("gru", "layer 'gru' of the student gives tuple for 6 examples; one tensor wanted"),
        ("idle", "layer 'idle' of the student gives nothing for 6 examples"),
    ],
)
def test_layers_that_give_no_tensor_are_refused(layer: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        probe(Recurrent(), draw(6, 5, 4), (layer,), "the student")


def test_an_extra_is_the_weighted_mean_over_its_pairs() -> None:
    student = {"a": draw(8, 3, 6), "b": draw(8, 3, 6, seed=1), LOGITS: draw(8, 4, seed=2)}
    teacher = {"c": draw(8, 5, 6, seed=3), "d": draw(8, 2, 6, seed=4), LOGITS: draw(8, 4, seed=5)}
    attention = Extra(kind="attention", weight=10.0, student_layers=("a", "b"), teacher_layers=("c", "d"))
    wanted = 5.0 * (attention_loss(student["a"], teacher["c"]) + attention_loss(student["b"], teacher["d"]))
    torch.testing.assert_close(ExtraLoss(attention, student, teacher)(student, teacher), wanted)

    def relations(of: str, to: str, **how: object) -> torch.Tensor:
        layers = {} if of == LOGITS else {"student_layers": (of,), "teacher_layers": (to,)}
        return ExtraLoss(Extra(kind="rkd", distance=0.5, angle=3.0, **layers, **how), student, teacher)(
            student, teacher
        )

    def parts(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        return 0.5 * distance_loss(ours, theirs) + 3.0 * angle_loss(ours, theirs)

    torch.testing.assert_close(relations(LOGITS, LOGITS), parts(student[LOGITS], teacher[LOGITS]))
    torch.testing.assert_close(relations("a", "c"), parts(student["a"].mean(2), teacher["c"].mean(2)))
    flat = relations("a", "c", embedding="flat")
    torch.testing.assert_close(flat, parts(student["a"].flatten(1), teacher["c"].flatten(1)))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"weight": 0.0}, "hint weight is 0.0; more than 0 wanted"),
        ({"weight": math.nan}, "hint weight is nan"),
        ({"student_layers": ("a", "b")}, "hint has 2 student_layers and 1 teacher_layers; as many wanted"),
        ({"student_layers": (), "teacher_layers": ()}, "hint has no student_layers; one or more wanted"),
        ({"distance": -1.0}, "distance is -1.0, angle 2.0; 0 or more wanted"),
        ({"distance": 0.0, "angle": 0.0}, "not both 0"),
    ],
)
def test_extras_that_teach_nothing_are_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Extra(**{"kind": "hint", "student_layers": ("a",), "teacher_layers": ("c",), **wrong})
