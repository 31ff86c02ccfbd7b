"""Teachers from ONNX files and soft labels from .npz files: the same as in torch, or refused before training."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn
from toy_task import Waves

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.soft_labels import read_soft_labels, soft_labels_of, write_soft_labels
from host_tools.compress.teachers import OnnxTeacher, check_teachers
from host_tools.export.plain import export_plain
from host_tools.measure.logits import network_logits

SHAPE = (2, 32)
TASK = Waves(width=3)


def inputs(n: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return TASK.student().eval()


@pytest.mark.parametrize("batch", [None, 4])
def test_an_onnx_teacher_says_what_the_torch_teacher_says(
    network: nn.Module, tmp_path: Path, batch: int | None
) -> None:
    onnx.save(export_plain(network, SHAPE, batch), tmp_path / "teacher.onnx")
    teacher = OnnxTeacher(tmp_path / "teacher.onnx")
    x = inputs(10)
    with torch.no_grad():
        wanted = network(torch.from_numpy(x)).numpy()
    for made in (teacher, copy.deepcopy(teacher)):
        np.testing.assert_allclose(network_logits(made, x), wanted, atol=1e-5)
        np.testing.assert_allclose(made(torch.from_numpy(x)).numpy(), wanted, atol=1e-5)
    assert not any(p.requires_grad for p in teacher.parameters())


def graph_of(kind: str, path: Path) -> Path:
    """A file of one node over (n, 3); `split` has two outputs, `sum` two inputs."""
    value = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)  # noqa: E731
    if kind == "split":
        nodes = [helper.make_node("Identity", ["x"], ["a"]), helper.make_node("Identity", ["x"], ["b"])]
        names = (["x"], ["a", "b"])
    elif kind == "sum":
        nodes, names = [helper.make_node("Add", ["x", "y"], ["a"])], (["x", "y"], ["a"])
    else:
        nodes, names = [helper.make_node(kind, ["x"], ["a"])], (["x"], ["a"])
    ends = [[value(name, "n", 3) for name in side] for side in names]
    graph = helper.make_graph(nodes, kind, *ends)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [("split", "1 inputs and 2 outputs; one of each wanted"), ("sum", "2 inputs and 1 outputs; one of each wanted")],
)
def test_files_with_several_ends_are_refused(kind: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=words):
        OnnxTeacher(graph_of(kind, tmp_path / "teacher.onnx"))


def test_files_that_are_no_onnx_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.onnx: cannot be read"):
        OnnxTeacher(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(SettingsError, match=r"bad\.onnx: not an ONNX file"):
        OnnxTeacher(tmp_path / "bad.onnx")


def test_a_teacher_of_other_inputs_is_refused_by_file(tmp_path: Path) -> None:
    teacher = OnnxTeacher(graph_of("Identity", tmp_path / "teacher.onnx"))
    with pytest.raises(SettingsError, match=r"teacher\.onnx refuses inputs \(4, 2, 32\)"):
        check_teachers(TASK, [teacher], torch.from_numpy(inputs(4)))


def test_a_teacher_of_other_classes_is_refused_naming_both(network: nn.Module) -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    with pytest.raises(
        SettingsError,
        match=r"waves: teacher 2 gives \(5,\) outputs per example; the task has 3 classes \(slow, middle, fast\)",
    ):
        check_teachers(TASK, [network, other], torch.from_numpy(inputs(4)))


def test_a_teacher_of_probabilities_is_refused(network: nn.Module) -> None:
    with pytest.raises(SettingsError, match="teacher 1 gives probabilities"):
        check_teachers(TASK, [nn.Sequential(network, nn.Softmax(-1))], torch.from_numpy(inputs(4)))


def test_soft_labels_come_back_as_they_were_said(network: nn.Module, tmp_path: Path) -> None:
    x, path = inputs(9), tmp_path / "new" / "soft.npz"
    said = soft_labels_of([network, network], x)
    with torch.no_grad():
        np.testing.assert_allclose(said[1], network(torch.from_numpy(x)).numpy(), atol=1e-6)
    write_soft_labels(path, said, x)
    np.testing.assert_array_equal(read_soft_labels(path, x, 3), said)


def test_soft_labels_of_other_inputs_are_refused(tmp_path: Path) -> None:
    x, path = inputs(6), tmp_path / "soft.npz"
    write_soft_labels(path, np.zeros((1, 6, 3), np.float32), x)
    changed = x.copy()
    changed[3, 1, 7] += 1e-6
    for other in (changed, x[::-1], x[:5], x.reshape(6, 64)):
        with pytest.raises(SettingsError, match=r"soft\.npz: made for inputs .{12}\.\.\.; these are"):
            read_soft_labels(path, other, 3)
    with pytest.raises(SettingsError, match=r"logits are \(1, 6, 3\); \(teachers, 6, 4\) wanted"):
        read_soft_labels(path, x, 4)
    with pytest.raises(SettingsError, match=r"logits are \(1, 5, 3\); \(teachers, 6, classes\) wanted"):
        write_soft_labels(path, np.zeros((1, 5, 3), np.float32), x)


@pytest.mark.parametrize("kind", ["missing", "text", "cut", "array", "other keys", "newer"])
def test_files_that_hold_no_soft_labels_are_refused(kind: str, tmp_path: Path) -> None:
    x, path = inputs(6), tmp_path / "soft.npz"
    write_soft_labels(path, np.zeros((1, 6, 3), np.float32), x)
    whole = path.read_bytes()
    if kind == "missing":
        path.unlink()
    elif kind == "text":
        path.write_text("slow, fast")
    elif kind == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "array":
        with path.open("wb") as file:
            np.save(file, x)
    elif kind == "other keys":
        np.savez(path, logits=x)
    else:
        np.savez(path, logits=np.zeros((1, 6, 3), np.float32), inputs_sha256="", schema=2)
    words = {"missing": "cannot be read", "newer": "schema is 2; this program reads up to 1"}
    with pytest.raises(SettingsError, match=rf"soft\.npz: {words.get(kind, 'no soft labels')}"):
        read_soft_labels(path, x, 3)
