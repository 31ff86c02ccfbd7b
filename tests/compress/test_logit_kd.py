"""Decoupled distillation and ensembles, against numpy on probabilities and the decomposition in the paper."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.distill import distillation_kl
from host_tools.compress.logit_kd import LogitLoss, decoupled_kl, ensemble_logits

HINTON = LogitLoss(method="(1-a)*ce+a*t2*kl", temperature=3.0, weight=0.4, alpha=1.0, beta=8.0)
LABELS = torch.tensor([0, 3, 1, 1, 2, 0, 3])


def logits(seed: int, classes: int = 4) -> torch.Tensor:
    return 3.0 * torch.randn(len(LABELS), classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softened(z: torch.Tensor, temperature: float) -> np.ndarray:
    e = np.exp(z.numpy() / temperature)
    return e / e.sum(1, keepdims=True)


def numpy_kl(p: np.ndarray, q: np.ndarray) -> float:
    return float(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_target_and_rest_are_those_of_the_paper(temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    target, rest = decoupled_kl(student, teacher, LABELS, temperature)
    q, p = softened(student, temperature), softened(teacher, temperature)
    for i, c in enumerate(LABELS.tolist()):
        pair = [np.array([r[i, c], 1 - r[i, c]]) for r in (p, q)]
        others = [np.delete(r[i], c) / (1 - r[i, c]) for r in (p, q)]
        assert target[i].item() == pytest.approx(numpy_kl(*pair), rel=1e-9)
        assert rest[i].item() == pytest.approx(numpy_kl(*others), rel=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_is_the_target_plus_the_rest_by_its_share(temperature: float) -> None:
    """Zhao et al. 2022, equation 7."""
    student, teacher = logits(2), logits(3)
    target, rest = decoupled_kl(student, teacher, LABELS, temperature)
    share = 1.0 - torch.from_numpy(softened(teacher, temperature))[torch.arange(len(LABELS)), LABELS]
    torch.testing.assert_close(target + share * rest, distillation_kl(student, teacher, temperature))


def test_of_two_classes_nothing_is_left_beside_the_target() -> None:
    labels = LABELS % 2
    target, rest = decoupled_kl(logits(4, 2), logits(5, 2), labels, 2.0)
    assert torch.equal(rest, torch.zeros_like(rest))
    torch.testing.assert_close(target, distillation_kl(logits(4, 2), logits(5, 2), 2.0))


def test_dkd_adds_both_parts_by_their_weights_and_the_squared_temperature() -> None:
    student, teacher, ce = logits(6), logits(7), logits(8)[:, 0].abs()
    how = replace(HINTON, method="dkd", alpha=0.7, beta=5.0)
    target, rest = decoupled_kl(student, teacher, LABELS, 3.0)
    torch.testing.assert_close(how.per_example(ce, student, teacher, LABELS), ce + 9.0 * (0.7 * target + 5.0 * rest))


def test_very_sure_logits_stay_numbers_and_keep_gradients() -> None:
    student, teacher = (80.0 * logits(9)).float().requires_grad_(), (80.0 * logits(10)).float()
    loss = replace(HINTON, method="dkd").per_example(torch.zeros(len(LABELS)), student, teacher, LABELS).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()


def test_the_published_forms_are_formula_and_library() -> None:
    student, teacher, ce = logits(11), logits(12), logits(13)[:, 0].abs()
    kl = torch.nn.functional.kl_div(
        (student / 3).log_softmax(1), (teacher / 3).log_softmax(1), reduction="none", log_target=True
    ).sum(1)
    torch.testing.assert_close(HINTON.per_example(ce, student, teacher, LABELS), 0.6 * ce + 0.4 * 9.0 * kl)
    plain = replace(HINTON, method="ce+a*kl", weight=2.5)
    torch.testing.assert_close(plain.per_example(ce, student, teacher, LABELS), ce + 2.5 * kl)


@pytest.mark.parametrize("method", ["(1-a)*ce+a*t2*kl", "dkd"])
def test_with_t2_the_gradient_keeps_its_size_and_without_it_shrinks(method: str) -> None:
    """Hinton et al. 2015, section 2.1; at high temperatures, doubling T leaves T^2 times the gradient as it is."""
    sizes = []
    for temperature in (100.0, 200.0):
        student = logits(14).requires_grad_()
        how = replace(HINTON, method=method, temperature=temperature, weight=1.0, beta=1.0)
        how.per_example(torch.zeros(len(LABELS)), student, logits(15), LABELS).sum().backward()
        sizes.append(student.grad.norm().item())
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_an_ensemble_says_the_mean_of_softened_probabilities(temperature: float) -> None:
    members = [logits(20), logits(21), logits(22)]
    wanted = np.mean([softened(z, temperature) for z in members], axis=0)
    np.testing.assert_allclose(softened(ensemble_logits(members, temperature), temperature), wanted, rtol=1e-5)


def test_twice_the_same_teacher_is_that_teacher() -> None:
    one, two = ensemble_logits([logits(23)], 4.0), ensemble_logits([logits(23), logits(23)], 4.0)
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(one.softmax(1), logits(23).softmax(1).float())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"temperature": 0.0}, "temperature is 0.0; more than 0 wanted"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"weight": -0.1}, "weight is -0.1; 0 to 1 wanted"),
        ({"weight": 1.1}, "weight is 1.1; 0 to 1 wanted"),
        ({"weight": -1.0, "method": "ce+a*kl"}, "weight is -1.0; 0 or more wanted"),
        ({"alpha": -1.0}, r"alpha is -1.0, beta 8.0; 0 or more wanted"),
        ({"beta": math.nan}, "beta nan"),
    ],
)
def test_what_no_paper_has_is_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        replace(HINTON, **wrong)
