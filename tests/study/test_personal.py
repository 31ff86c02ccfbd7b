"""Personal last layers: against scikit-learn and scipy, on people with labels of their own, and what is refused."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from people_task import People
from scipy import optimize, special, stats
from sklearn.linear_model import LogisticRegression
from torch import nn
from toy_task import SAMPLES, WaveNet, Waves

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.step import Candidate
from host_tools.export.plain import export_plain
from host_tools.study.chains import Link
from host_tools.study.markdown import to_markdown
from host_tools.study.personal import Personal, compare, last_layer, personal_weights, summary
from host_tools.study.place import Place
from host_tools.study.plan import load_study
from host_tools.study.result import RowResult, StudyResult, from_json, to_json
from host_tools.study.run import run_study
from host_tools.tasks.task import Examples

RNG = np.random.default_rng(0)
FEATURES = np.concatenate([RNG.standard_normal((40, 4)), np.ones((40, 1))], axis=1)
LABELS = (FEATURES[:, 0] + 0.5 * RNG.standard_normal(40) > 0).astype(int) + (FEATURES[:, 1] > 0.8)
ONE_HOT = np.eye(3)[LABELS]
LONG = Personal(first=40, pull=0.7, epochs=5000)


def link(network: nn.Module, *, graph: bool = False, refused: tuple[str, ...] = ()) -> Link:
    content = export_plain(network, (2, SAMPLES)) if graph else None
    return Link(candidate=Candidate(network=network, graph=content), refused=refused, seconds=0.0, key="key")


def objective(flat: np.ndarray, shared: np.ndarray, pull: float, target: np.ndarray) -> float:
    weights = flat.reshape(shared.shape)
    logits = FEATURES @ weights
    cross = -(target * (logits - special.logsumexp(logits, axis=1, keepdims=True))).sum()
    return float(cross + 0.5 * pull * ((weights - shared) ** 2).sum())


# The layer.


def test_from_zero_weights_it_is_the_logistic_regression_of_scikit_learn() -> None:
    found = personal_weights(FEATURES, ONE_HOT, np.zeros((5, 3)), LONG)
    oracle = LogisticRegression(C=1 / 0.7, fit_intercept=False, tol=1e-10, max_iter=5000).fit(FEATURES, LABELS)
    np.testing.assert_allclose(found, oracle.coef_.T, atol=1e-5)


@pytest.mark.parametrize("soft", [False, True])
def test_from_shared_weights_it_is_the_minimum_that_scipy_finds(soft: bool) -> None:
    shared = np.random.default_rng(1).standard_normal((5, 3))
    target = np.random.default_rng(2).dirichlet([1, 1, 1], 40) if soft else ONE_HOT
    found = personal_weights(FEATURES, target, shared, LONG)
    oracle = optimize.minimize(objective, shared.ravel(), (shared, 0.7, target), method="BFGS", options={"gtol": 1e-7})
    np.testing.assert_allclose(found.ravel(), oracle.x, atol=1e-4)
    assert not np.allclose(found, shared, atol=0.1)


def test_every_step_descends_and_a_strong_pull_leaves_the_shared_weights() -> None:
    shared = 3.0 * np.random.default_rng(1).standard_normal((5, 3))
    losses = [
        objective(personal_weights(FEATURES, ONE_HOT, shared, Personal(first=9, epochs=n)), shared, 1.0, ONE_HOT)
        for n in range(1, 40)
    ]
    assert all(b < a for a, b in pairwise(losses))
    held = personal_weights(FEATURES, ONE_HOT, shared, Personal(first=9, pull=1e6))
    np.testing.assert_allclose(held, shared, atol=1e-3)


@pytest.mark.parametrize("bias", [True, False])
def test_the_last_layer_is_found_and_its_product_is_the_network_s_logits(bias: bool) -> None:
    torch.manual_seed(0)
    network = WaveNet(6).eval()
    network.last = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3, bias=bias))
    x = Waves().folds(None)[0].test.inputs[:10]
    features, weights = last_layer(network, x, "row")
    with torch.no_grad():
        np.testing.assert_allclose(features @ weights, network(torch.from_numpy(x)).numpy(), atol=1e-6)
        np.testing.assert_array_equal(weights[:5].T, network.last[2].weight.numpy())
    assert (features[:, -1] == 1).all()


# The comparison.


def test_a_group_learns_from_its_first_examples_and_is_scored_on_the_others() -> None:
    torch.manual_seed(0)
    network = WaveNet(6).eval()
    test = People().folds(None)[0].test
    mixed = test.take(np.random.default_rng(0).permutation(len(test)))
    found = compare(Personal(first=15), "row", (), link(network), mixed)
    features, shared = last_layer(network, mixed.inputs, "row")
    wanted = []
    for name in dict.fromkeys(mixed.groups.tolist()):
        of = [i for i in range(len(mixed)) if mixed.groups[i] == name]
        own = personal_weights(features[of[:15]], np.eye(3)[mixed.labels[of[:15]]], shared, Personal(first=15))
        wanted += [(i, features[i] @ shared, features[i] @ own) for i in of[15:]]
    assert found.index.tolist() == [i for i, _, _ in wanted]
    assert len(found.index) == 6 * 5
    np.testing.assert_allclose(found.before, [b for _, b, _ in wanted], atol=1e-5)
    np.testing.assert_allclose(found.after, [a for _, _, a in wanted], atol=1e-5)


def test_groups_without_further_examples_are_left_out() -> None:
    network, test = WaveNet(6).eval(), People().folds(None)[0].test
    short = test.take(np.arange(30))  # 20 of the first person, 10 of the second
    found = compare(Personal(first=10), "row", (), link(network), short)
    assert found.index.tolist() == list(range(10, 20))
    with pytest.raises(SettingsError, match=r"row 'row': personal\.first is 20; fewer than 20"):
        compare(Personal(first=20), "row", (), link(network), short)


def test_a_model_without_a_last_layer_to_adapt_is_refused() -> None:
    test = People().folds(None)[0].test
    steps = ("train", "quantize", "half")
    with pytest.raises(
        SettingsError, match=r"row 'small': personal wants a network.*step 'quantize' left only a graph"
    ):
        compare(Personal(first=5), "small", steps, link(WaveNet(4).eval(), graph=True, refused=("half: x",)), test)
    squashed = nn.Sequential(WaveNet(4), nn.Tanh()).eval()
    with pytest.raises(SettingsError, match="none of 1 linear layers of Sequential gives its logits"):
        compare(Personal(first=5), "small", (), link(squashed), test)


@pytest.mark.parametrize("wrong", [{"first": 0}, {"epochs": 0}, {"pull": -1.0}, {"learning_rate": 1.5}])
def test_settings_that_learn_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="learning_rate above 0 and at most 1"):
        Personal(**{"first": 5, **wrong})  # type: ignore[arg-type]


def test_the_mean_gain_is_paired_over_groups_with_student_s_t() -> None:
    task, n = Waves(), 40
    labels, groups = np.arange(n) % 3, np.repeat([f"g{i}" for i in range(4)], 10)
    shared, own = np.eye(3)[labels].astype(np.float32), np.eye(3)[labels].astype(np.float32)
    for wrong, logits in (((0, 1, 2, 10, 11, 12, 20), shared), ((0, 30), own)):
        for i in wrong:
            logits[i] = np.eye(3)[(labels[i] + 1) % 3]
    examples = Examples(inputs=np.zeros((n, 0), np.float32), labels=labels, groups=groups)
    table, gain = summary(Personal(first=5), task.score, task.metric, [(np.hstack([shared, own]), examples)], 7)
    points = [20.0, 30.0, 10.0, -10.0]  # 3, 3, 1, 0 of ten wrong, then 1, 0, 0, 1
    reach = stats.t.ppf(0.975, 3) * stats.sem(points)
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.125, 0.125 - reach / 100, 0.125 + reach / 100))
    assert table.rows[0] == pytest.approx(("mean of 4 groups", 40, 82.5, 95.0, 12.5, 12.5 - reach, 12.5 + reach))
    assert table.rows[1][:5] == pytest.approx(("all examples together", 40, 82.5, 95.0, 12.5))
    assert [(r[0], r[4]) for r in table.rows[2:]] == [
        ("g3", pytest.approx(-10)), ("g2", pytest.approx(10)), ("g0", pytest.approx(20)), ("g1", pytest.approx(30)),
    ]  # fmt: skip
    assert "4 of 7 groups" in table.title


# A whole study.

TEXT = f"""
schema = 1
name = "people"
title = "People"
task = "{Path(__file__).parents[1] / "people_task.py"}:People"
seeds = [0, 1]
options = {{ noise = 0.5 }}
[teacher]
steps = [{{ do = "train", fit = {{ epochs = 0.1 }} }}]
[[row]]
name = "shared"
steps = [{{ do = "train", fit = {{ epochs = 20 }} }}]
[[row]]
name = "own"
after = "shared"
personal = {{ first = 14, pull = 0.1 }}
[[claim]]
title = "own layers help"
row = "own"
figure = "personal_gain"
floor = 20.0
"""


def row(result: StudyResult, name: str) -> RowResult:
    return next(r for r in result.rows if r.name == name)


def digests(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        p.name: (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in sorted(folder.glob("*"))
    }


def test_people_with_labels_of_their_own_gain_and_other_rows_and_models_stay(tmp_path: Path) -> None:
    (tmp_path / "with.toml").write_text(TEXT)
    plain = TEXT.replace("personal = { first = 14, pull = 0.1 }\n", "").partition("[[claim]]")[0]
    (tmp_path / "without.toml").write_text(plain)
    place = Place(root=None, out=tmp_path / "out")

    def run(name: str) -> StudyResult:
        return run_study(load_study(tmp_path / name), place, jobs=1, command="", tick=lambda *_: None)

    before = run("without.toml")
    models = digests(place.out / "models")
    found = run("with.toml")
    assert digests(place.out / "models") == models  # nothing is trained again
    for name in ("shared", "own"):
        assert row(found, name).cells == row(before, name).cells
    assert row(before, "own").tables == row(found, "shared").tables == row(found, "own").tables[:-1]
    assert set(row(found, "own").figures) - set(row(found, "shared").figures) == {"personal_gain"}
    table = row(found, "own").tables[-1]
    assert "12 of 12 groups" in table.title
    assert table.rows[0][1] == 12 * 6
    gained = {str(r[0]): float(r[4] or 0) for r in table.rows[2:]}
    odd = [v for k, v in gained.items() if k[-1] in "135"]
    even = [v for k, v in gained.items() if k[-1] in "024"]
    assert np.mean(odd) > 30 > 10 > abs(np.mean(even))
    claim = found.claims[0]
    assert claim.found.value == pytest.approx(table.rows[0][4])
    assert claim.verdict == "floor met"
    assert "a personal last layer from the first 14 labelled examples" in to_markdown(found)
    (tmp_path / "r.json").write_text(to_json(found))
    assert json.loads(to_json(from_json(tmp_path / "r.json"))) == json.loads(to_json(found))
