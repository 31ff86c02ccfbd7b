"""What many tests share: an engine, and two tiny bundles that are packed once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import litert_runs
import pytest
import tiny_models
import tiny_windows
import torch

from edge_runtime.contract.bundle import Bundle, open_bundle
from edge_runtime.engine.onnx import OnnxEngine
from host_tools.export.forms import form_of, litert_forms, with_forms


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    """Small tensors gain nothing from more threads, and other tests measure time."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def engine() -> OnnxEngine:
    return OnnxEngine()


@pytest.fixture(scope="session")
def int8_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    student = tiny_models.trained_student()
    return tiny_models.packed(student, tmp_path_factory.mktemp("int8") / "bundle", is_int8=True).bundle


@pytest.fixture(scope="session")
def fp32_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    student = tiny_models.trained_student()
    return tiny_models.packed(student, tmp_path_factory.mktemp("fp32") / "bundle", is_int8=False).bundle


@pytest.fixture(scope="session")
def all_forms_bundle(tmp_path_factory: pytest.TempPathFactory, int8_bundle: Bundle, fp32_bundle: Bundle) -> Bundle:
    """The tiny student in four forms: both engines, INT8 and fp32."""
    litert_runs.needs_litert()
    place = tmp_path_factory.mktemp("forms") / "bundle"
    both = with_forms(int8_bundle, [form_of(fp32_bundle)], place).bundle
    return with_forms(both, litert_forms(both)).bundle


@pytest.fixture(scope="session")
def window_bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Tiny bundles of windows by kind: rhythm, rate, table."""
    folder = tmp_path_factory.mktemp("windows")
    return {name: tiny_windows.packed(make(), folder / name).bundle for name, make in tiny_windows.KINDS.items()}


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Bundle], Path]:
    """A copy of a bundle's folder that a test may damage."""

    def copy(bundle: Bundle) -> Path:
        folder = tmp_path / f"copy-{bundle.path.name}"
        shutil.copytree(bundle.path, folder)
        assert open_bundle(folder).id == bundle.id
        return folder

    return copy
