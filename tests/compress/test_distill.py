"""The distillation losses against torch's own KL divergence, hand-made numbers and Hinton's gradient argument."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.distill import FORMS, Distillation, distillation_kl, distillation_loss


def logits(seed: int) -> torch.Tensor:
    return 3.0 * torch.randn(6, 9, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
def test_the_divergence_is_torchs(temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    wanted = nn.KLDivLoss(reduction="none", log_target=True)(
        (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
    ).sum(-1)
    torch.testing.assert_close(distillation_kl(student, teacher, temperature), wanted)


def test_the_divergence_of_two_coins_by_hand() -> None:
    """KL((3/4, 1/4) || (1/2, 1/2)) = 3/4 log(3/2) + 1/4 log(1/2); the teacher is the first of the two."""
    teacher, student = torch.tensor([math.log(3.0), 0.0]), torch.tensor([0.0, 0.0])
    wanted = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert distillation_kl(student, teacher, 1.0).item() == pytest.approx(wanted)
    assert distillation_kl(teacher, teacher, 3.0).item() == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize(("a", "t"), [(0.0, 1.0), (0.3, 2.0), (1.0, 4.0)])
def test_both_published_losses(a: float, t: float) -> None:
    student, teacher = logits(2), logits(3)
    ce = torch.rand(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    kl = nn.KLDivLoss(reduction="none")((student / t).log_softmax(-1), (teacher / t).softmax(-1)).sum(-1)
    wanted = {"ce+a*kl": ce + a * kl, "(1-a)*ce+a*t2*kl": (1 - a) * ce + a * t * t * kl}
    assert set(wanted) == set(FORMS)
    for form in FORMS:
        how = Distillation(form=form, temperature=t, weight=a)
        torch.testing.assert_close(distillation_loss(ce, student, teacher, how), wanted[form])


def test_with_t2_the_gradient_keeps_its_size_at_any_temperature() -> None:
    """Hinton 2015, section 2.1: for high T the gradient tends to (z - v) / n for zero-mean logits; without T^2
    it shrinks with 1 / T^2."""
    teacher = logits(5)
    teacher = teacher - teacher.mean(-1, keepdim=True)
    sizes = {}
    for form in FORMS:
        for t in (50.0, 100.0):
            student = logits(6)
            student = (student - student.mean(-1, keepdim=True)).requires_grad_()
            how = Distillation(form=form, temperature=t, weight=1.0)
            distillation_loss(torch.zeros(6, 9, dtype=torch.float64), student, teacher, how).sum().backward()
            assert student.grad is not None
            sizes[form, t] = student.grad.norm().item()
            if form == FORMS[1] and t == 100.0:
                limit = (student.detach() - teacher) / 4
                torch.testing.assert_close(student.grad, limit, rtol=0.0, atol=0.05 * limit.abs().max().item())
    assert sizes[FORMS[1], 100.0] == pytest.approx(sizes[FORMS[1], 50.0], rel=0.05)
    assert sizes[FORMS[0], 100.0] == pytest.approx(sizes[FORMS[0], 50.0] / 4, rel=0.05)


def test_a_student_follows_its_teacher_and_the_teacher_stays() -> None:
    student, teacher = logits(7).requires_grad_(), logits(8)
    before = teacher.clone()
    optimizer = torch.optim.Adam([student], lr=0.2)
    for _ in range(300):
        loss = distillation_loss(torch.zeros(6, 9), student, teacher, Distillation(weight=1.0)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(student.softmax(-1), teacher.softmax(-1), atol=1e-2, rtol=0)
    assert torch.equal(teacher, before)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"form": "kl"}, "form is 'kl'; one of"),
        ({"temperature": 0.0}, "temperature is 0.0; more than 0 wanted"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"weight": -0.1}, "weight is -0.1; 0 to 1 wanted"),
        ({"weight": 1.1}, "weight is 1.1; 0 to 1 wanted"),
        ({"weight": math.nan}, "weight is nan"),
        ({"frame_weight": 1.5}, "frame_weight is 1.5; 0 to 1 wanted"),
    ],
)
def test_parameters_that_no_published_form_has_are_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Distillation(**wrong)


def test_in_the_first_form_the_teacher_may_weigh_more_than_the_labels() -> None:
    assert Distillation(form="ce+a*kl", weight=3.0).weight == 3.0
