"""Models of a finished study become bundles that say on the device what was scored, with a card of the figures."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from toy_task import SAMPLES, Waves

from edge_runtime.cli import main as edge_main
from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.manifest import Training, WindowManifest
from edge_runtime.contract.window import Window
from edge_runtime.engine.onnx import OnnxEngine
from host_tools.cli import main
from host_tools.export.front import with_front
from host_tools.export.golden_inputs import GoldenInput
from host_tools.export.pack_window import Cost, Description, pack_window
from host_tools.export.plain import export_plain
from host_tools.measure.logits import network_logits
from host_tools.study.pack_row import Choice, PackedRow, finished, pack_row
from host_tools.study.place import Place
from host_tools.study.plan import Study, load_study
from host_tools.study.report import write_reports
from host_tools.study.result import Refusal, RefusedRow, RowResult, StudyResult
from host_tools.study.row_card import ShippedCell, row_card
from host_tools.study.run import run_study
from host_tools.tasks.known import open_task
from host_tools.tasks.shipped import SHIPPED
from host_tools.tasks.shipping import Shipping, shipping_of

FAILURE = "Waves of other frequencies are called one of three."


class ShippedWaves(Waves):
    """The toy task, shippable; its graph limits what the network sees, which changes nothing."""

    def shipping(self) -> Shipping:
        """One reading per example."""
        window = Window(reading="wave", channels=("left", "right"), rate_hz=32.0, window_samples=SAMPLES)
        x = np.random.default_rng(5).standard_normal((4 * SAMPLES, 2)).astype(np.float32)
        return Shipping(
            description=Description(
                name="waves", task="waves", unit="V", window=window, hop_samples=SAMPLES, classes=self.classes
            ),
            given=GoldenInput(samples=x, rate_hz=32.0),
            front=nn.Hardtanh(-1e3, 1e3),
            intended_use="Tests of waves.",
            sees="A second of two channels.",
            says="Which wave.",
            data="None was recorded.",
            licence="free",
            citation="Nobody 2020",
            protocol="Two folds.",
            failures=(FAILURE,),
            figures={"accuracy": ("share that is right", "%")},
            group="surfer",
            simulated=True,
        )


TEXT = f"""
schema = 1
name = "waves"
title = "Waves"
task = "{Path(__file__)}:ShippedWaves"
seeds = [0, 1]
pairing = "one-to-one"
options = {{ noise = 0.9 }}
teacher = {{ seeds = [0], steps = [{{ do = "train", fit = {{ epochs = 1 }} }}] }}

[[row]]
name = "student"
steps = [{{ do = "train" }}]

[[row]]
name = "INT8"
after = "student"
steps = [{{ do = "quantize", format = "qoperator" }}]

[[row]]
name = "INT8, QDQ"
after = "student"
steps = [{{ do = "quantize" }}]

[[claim]]
title = "INT8 against fp32"
row = "INT8, QDQ"
against = "student"
figure = "points lost"
floor = 5.0
at_most = true

[[claim]]
title = "INT8 against fp32, bytes"
row = "INT8"
against = "student"
figure = "times smaller"
"""
ROWS = ("student", "INT8", "INT8, QDQ")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pack")
    (place / "waves.toml").write_text(TEXT)
    return place


@pytest.fixture(scope="module")
def study(folder: Path) -> Study:
    return load_study(folder / "waves.toml")


@pytest.fixture(scope="module")
def result(study: Study, folder: Path) -> StudyResult:
    place = Place(root=None, out=folder / "out")
    result = run_study(study, place, jobs=1, command="test", tick=lambda d, n, t: None)
    write_reports(result, place.out)
    return result


@pytest.fixture(scope="module")
def packed(study: Study, folder: Path, result: StudyResult) -> dict[str, PackedRow]:
    return {
        row: pack_row(study, folder / "out", Choice(row=row), folder / f"bundle-{row}", OnnxEngine()) for row in ROWS
    }


def home(folder: Path) -> Path:
    """Where models of a study with options lie."""
    (found,) = (folder / "out").glob("options-*")
    return found


def card(done: PackedRow) -> str:
    return (done.packed.bundle.path / "MODEL_CARD.md").read_text()


def manifest(done: PackedRow) -> WindowManifest:
    found = done.packed.bundle.manifest
    assert isinstance(found, WindowManifest)
    return found


def line(done: PackedRow, start: str) -> str:
    return next(x for x in card(done).splitlines() if x.startswith(f"| {start}"))


@pytest.mark.parametrize("row", ROWS)
def test_the_device_says_of_the_test_examples_what_the_study_scored(
    packed: dict[str, PackedRow],
    result: StudyResult,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    row: str,
) -> None:
    bundle = str(packed[row].packed.bundle.path)
    assert edge_main(["check", bundle]) == 0
    assert "golden vectors passed" in capsys.readouterr().out
    cell = next(r for r in result.rows if r.name == row).cells[0]
    logits = np.load(home(folder) / "cells" / f"{cell.key}.npy").astype(np.float64)
    examples = Waves(noise=0.9).folds(None)[0].test.inputs
    np.save(tmp_path / "x.npy", examples.transpose(0, 2, 1).reshape(-1, 2))
    assert edge_main(["replay", bundle, f"npy:{tmp_path}/x.npy?rate_hz=32&columns=all&unit=V", "--json"]) == 0
    *lines, _ = [json.loads(x) for x in capsys.readouterr().out.splitlines()]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert [x["value"] for x in lines] == [Waves.classes[i] for i in logits.argmax(axis=1)]
    assert [x["confidence"] for x in lines] == pytest.approx(p.max(axis=1).tolist(), abs=1e-4)


def test_torch_is_compared_where_the_model_is_still_torch(packed: dict[str, PackedRow]) -> None:
    assert {row: done.packed.parity.network is not None for row, done in packed.items()} == {
        "student": True, "INT8": False, "INT8, QDQ": False,
    }  # fmt: skip
    assert [manifest(done).step_graph.precision for done in packed.values()] == ["fp32", "int8", "int8"]
    # Two convolutions and a dense layer, counted in toy_task.WaveNet.
    assert {manifest(done).step_graph.operators for done in packed.values()} == {3}
    assert {manifest(done).step_graph.integer_operators for done in packed.values()} == {0, 3}
    assert {manifest(done).step_graph.macs for done in packed.values()} == {32 * (8 * 14 + 8 * 8 * 5) + 24}


def test_the_graph_holds_the_tasks_front_and_names_each_opset_once(packed: dict[str, PackedRow]) -> None:
    for done in packed.values():
        graph = onnx.load(done.packed.bundle.file("model.onnx"))
        reads = [n.op_type for n in graph.graph.node if graph.graph.input[0].name in n.input]
        assert reads == ["Clip"]
        domains = [o.domain for o in graph.opset_import]
        assert len(set(domains)) == len(domains)


def test_the_manifest_says_where_the_model_comes_from(packed: dict[str, PackedRow], result: StudyResult) -> None:
    found = manifest(packed["INT8"])
    assert found.training == Training(
        commit=result.commit,
        recipe="waves",
        recipe_sha256=result.study_sha256,
        seed=0,
        records="made by a program; training part of fold 0",
        simulated=True,
    )
    assert found.metrics == {k: e.value for k, e in result.rows[1].figures.items()}


def test_the_card_tells_the_figures_of_all_models_beside_those_of_this_one(
    packed: dict[str, PackedRow], result: StudyResult
) -> None:
    text, row = card(packed["INT8"]), result.rows[1]
    pooled, own = row.figures["accuracy"], row.cells[0].figures["accuracy"]
    # Both folds have as many examples, so that the pooled accuracy is the mean of the cells.
    mean = sum(c.figures["accuracy"] or 0.0 for c in row.cells) / 2
    assert pooled.low is not None
    assert pooled.high is not None
    assert own is not None
    assert line(packed["INT8"], "share that is right |") == (
        f"| share that is right | {100 * mean:.4g} % [{100 * pooled.low:.4g}, {100 * pooled.high:.4g}] "
        f"| this model: {100 * own:.4g} % |"
    )
    worst = min(value for _, value in row.per_group)
    assert f"| share that is right, worst surfer | {100 * worst:.4g} % |" in text
    assert "all 2 models of the row together (2 folds, 2 seeds)" in text
    assert "by resampling 20 surfers" in text  # 10 groups in each test part, see toy_task
    assert "that of fold 0, seed 0" in text
    for told in (FAILURE, "Tests of waves.", "Licence: free.", "Citation: Nobody 2020", "Not a medical device",
                 "Simulated data", result.machine, f"{row.latency_us:.4g} µs"):  # fmt: skip
        assert told in text


def test_the_card_tells_what_int8_lost_whether_the_study_claims_it_or_not(
    packed: dict[str, PackedRow], result: StudyResult
) -> None:
    student, int8, _ = result.rows
    assert "| lost against 'student' |" in card(packed["INT8"])
    assert f"{student.file_bytes / int8.file_bytes:.4g} times" in line(packed["INT8"], "INT8 against fp32, bytes")
    claimed = result.claims[0].found
    assert f"{claimed.value:.4g} points [{claimed.low:.4g}, {claimed.high:.4g}]" in line(
        packed["INT8, QDQ"], "INT8 against fp32: points lost"
    )
    assert "lost against" not in card(packed["INT8, QDQ"]).replace("INT8 against", "")
    assert "lost against" not in card(packed["student"])


def test_what_int8_lost_is_the_mean_over_cells_in_points(result: StudyResult) -> None:
    def of(row: RowResult, *accuracies: float) -> RowResult:
        cells = [replace(c, figures={"accuracy": a}) for c, a in zip(row.cells, accuracies, strict=True)]
        return replace(row, cells=tuple(cells))

    before, after = of(result.rows[0], 0.9, 0.8), of(result.rows[1], 0.85, 0.7)
    chosen = ShippedCell(row=after, cell=after.cells[0], before=before, graph_bytes=1, parameters=1, macs=1)
    text = row_card(result, chosen, ShippedWaves().shipping())
    # 5 and 10 percent points
    assert "| lost against 'student' | 7.5 points | a point is 1% of accuracy; mean of 2 models, from 5 to 10 |" in text


def test_the_cards_bytes_are_those_of_the_file(packed: dict[str, PackedRow]) -> None:
    for done in packed.values():
        size = done.packed.bundle.file("model.onnx").stat().st_size
        assert f"| {size / 1e3:.4g} kB |" in line(done, "graph in this bundle")


def test_a_model_that_a_guard_left_behind_says_so(result: StudyResult, study: Study) -> None:
    row = result.rows[1]
    cell = replace(row.cells[0], refused=("quantize: accuracy lost 9 points",))
    chosen = ShippedCell(row=row, cell=cell, before=None, graph_bytes=1, parameters=1, macs=1)
    assert "accuracy lost 9 points" in row_card(result, chosen, ShippedWaves().shipping())


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (Choice(row="INT4"), r"no row 'INT4'; rows are 'student', 'INT8', 'INT8, QDQ'"),
        (Choice(row="INT8", fold="7"), r"no model of fold 7; there are fold 0 seed 0, fold 1 seed 1"),
        (Choice(row="INT8", fold="0", seed=1), r"no model of fold 0 seed 1; there are fold 0 seed 0"),
    ],
)
def test_what_is_not_there_is_refused_naming_what_is(
    study: Study, folder: Path, result: StudyResult, tmp_path: Path, choice: Choice, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        pack_row(study, folder / "out", choice, tmp_path / "bundle", OnnxEngine())
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_study_and_another_version_of_it_are_refused(
    study: Study, folder: Path, result: StudyResult, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"not finished: neither .*report\.json nor docs/results/waves\.json"):
        finished(study, tmp_path)
    with pytest.raises(SettingsError, match="another version of study waves"):
        finished(replace(study, seeds=(0, 2)), folder / "out")


def test_a_model_that_was_deleted_is_named(study: Study, folder: Path, result: StudyResult, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes((folder / "out" / "report.json").read_bytes())
    with pytest.raises(SettingsError, match=rf"cells/{result.rows[0].cells[0].key}\.onnx: no such file"):
        pack_row(study, tmp_path, Choice(row="student"), tmp_path / "bundle", OnnxEngine())


def test_a_refused_row_is_not_packed(study: Study, result: StudyResult, tmp_path: Path) -> None:
    why = (Refusal(fold="1", seed=1, reason="step 'quantize': no"),)
    refused = RefusedRow(name="INT8", note="", refusals=why, cells=2)
    write_reports(replace(result, rows=result.rows[:1], refused=(refused,)), tmp_path)
    with pytest.raises(
        SettingsError, match="row 'INT8' has no model to pack: it is refused, fold 1, seed 1: step 'quantize': no"
    ):
        pack_row(study, tmp_path, Choice(row="INT8"), tmp_path / "bundle", OnnxEngine())


def test_a_folder_that_is_no_bundle_is_not_replaced(
    study: Study, folder: Path, result: StudyResult, tmp_path: Path
) -> None:
    (tmp_path / "precious").write_text("kept")
    with pytest.raises(SettingsError, match="is no bundle"):
        pack_row(study, folder / "out", Choice(row="student"), tmp_path, OnnxEngine())
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_task_that_does_not_say_how_it_is_shipped_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"task breast-cancer does not say .* ecg-rhythm, heart-disease"):
        shipping_of("breast-cancer", open_task("breast-cancer", {}))


def test_the_command_packs_the_fold_that_is_asked_for_and_replaces_a_bundle(
    packed: dict[str, PackedRow], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["pack", str(folder / "waves.toml"), "INT8", "--out", str(folder / "out"), "--to", str(tmp_path / "b")]
    shutil.copytree(packed["INT8"].packed.bundle.path, tmp_path / "b")
    assert main([*command, "--fold", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["fold"], said["seed"], said["warnings"]) == ("1", 1, [])
    assert said["bytes"] == sum(f.stat().st_size for f in (tmp_path / "b").iterdir())
    assert "that of fold 1, seed 1" in (tmp_path / "b" / "MODEL_CARD.md").read_text()
    assert packed["INT8"].to_text().endswith(f"agree on 4 windows; {packed['INT8'].n_bytes / 1e3:.1f} kB")
    assert main([*command[:2], "nothing", *command[3:]]) == 1
    assert "no row 'nothing'" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_student_of_each_task_fits_what_is_said_about_it(name: str, tmp_path: Path) -> None:
    task = open_task(name, {})
    shipping = shipping_of(name, task)
    d = shipping.description
    torch.manual_seed(0)
    network = task.student().eval()
    n = d.window.window_samples
    shape = (len(d.window.channels), n) if n > 1 else (len(d.window.channels),)
    graph = export_plain(network, shape)
    if shipping.front is not None:
        graph = with_front(shipping.front, graph, shape)
    packed = pack_window(
        graph,
        tmp_path / "bundle",
        description=d,
        cost=Cost(parameters=0, macs=0, operators=1),
        given=shipping.given,
        engine=OnnxEngine(),
        training=Training(commit="", recipe="", recipe_sha256="0" * 64, seed=0, records="", simulated=True),
        card="none",
        network=network if shipping.front is None else nn.Sequential(shipping.front, network),
    )
    assert packed.parity.windows > 4
    # What the card names is what the task scores.
    x = np.random.default_rng(0).standard_normal((40, *shape)).astype(np.float32)
    logits = network_logits(network, x)
    assert logits.shape[1] == len(task.classes) == len(d.classes or d.window.values)
    assert set(shipping.figures) == set(_scored(task, logits))


def _scored(task: object, logits: np.ndarray) -> dict[str, float]:
    from host_tools.tasks.task import Examples

    n, classes = len(logits), task.classes  # type: ignore[attr-defined]
    labels = np.arange(n) % len(classes)
    examples = Examples(
        inputs=np.zeros((n, 0), np.float32),
        labels=labels,
        groups=np.array([f"g{i % 4}" for i in range(n)]),
        values=np.linspace(10.0, 20.0, n),
    )
    return dict(task.score(logits, examples))  # type: ignore[attr-defined]
