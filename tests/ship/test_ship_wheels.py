"""Choosing wheels: for the device and not for the host, from a folder, an index or the cache."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from shipping_fakes import FAKE_RUNTIME

from edge_runtime.contract.errors import SettingsError
from host_tools.ship.archives import package_archive, runtime_id
from host_tools.ship.errors import ShipError
from host_tools.ship.wheels import Platform, platform_tags, preferred, wheels_for

PI = Platform(machine="aarch64", python=(3, 11), glibc=(2, 36))
OLD_PI = Platform(machine="aarch64", python=(3, 11), glibc=(2, 27))


def make_wheel(folder: Path, name: str) -> None:
    """A wheel that pip accepts, with one module."""
    project, version, *_ = name.split("-")
    about = f"{project}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}.whl", "w") as wheel:
        wheel.writestr(f"{project}/__init__.py", f"version = '{version}'\n")
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\n")
        wheel.writestr(f"{about}/RECORD", "")


@pytest.fixture
def shelf(tmp_path):
    """A folder of wheels for several platforms."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    for name in (
        "numpy-1.26.4-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64",
        "numpy-2.4.6-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64",
        "numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64",
        "numpy-2.5.5-cp313-cp313-manylinux_2_28_aarch64",
        "ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_aarch64",
        "tflite_runtime-2.14.0-cp311-cp311-manylinux_2_17_aarch64",
        "onnxruntime-1.16.3-cp311-cp311-manylinux_2_17_aarch64",
        "onnxruntime-1.31.1-cp311-cp311-manylinux_2_28_aarch64",
        "psutil-7.2.2-cp36-abi3-manylinux_2_17_aarch64",
        "pyserial-3.5-py2.py3-none-any",
    ):
        make_wheel(folder, name)
    return folder


def names(archives):
    """Names without tags."""
    return ["-".join(archive.name.split("-")[:2]) for archive in archives]


def test_wheels_fit_the_device_and_not_the_host(shelf, tmp_path):
    wanted = ("numpy", "psutil", "pyserial", "onnxruntime")
    pins = {"numpy": "2.4.6", "onnxruntime": "1.31.1"}
    found = wheels_for(PI, wanted, source=shelf, pins=pins, cache=tmp_path)
    assert names(found) == ["numpy-2.4.6", "onnxruntime-1.31.1", "psutil-7.2.2", "pyserial-3.5"]
    assert "aarch64" in found[0].name


def test_where_the_pinned_version_has_no_wheel_the_newest_fitting_one_is_taken(shelf, tmp_path):
    pins = {"numpy": "2.4.6", "onnxruntime": "1.31.1"}
    found = wheels_for(OLD_PI, ("numpy", "onnxruntime"), source=shelf, pins=pins, cache=tmp_path)
    # onnxruntime 1.16 was built against numpy 1.
    assert names(found) == ["numpy-1.26.4", "onnxruntime-1.16.3"]


def test_litert_is_its_forerunner_with_numpy_1_where_it_has_no_wheel(shelf, tmp_path):
    wanted, pins = ("numpy", "ai-edge-litert"), {"numpy": "2.4.6", "ai-edge-litert": "2.3.0"}
    found = wheels_for(PI, wanted, source=shelf, pins=pins, cache=tmp_path)
    assert names(found) == ["ai_edge_litert-2.3.0", "numpy-2.4.6"]
    old = Platform(machine="aarch64", python=(3, 11), glibc=(2, 17))
    found = wheels_for(old, wanted, source=shelf, pins=pins, cache=tmp_path)
    assert names(found) == ["numpy-1.26.4", "tflite_runtime-2.14.0"]


def test_a_missing_wheel_is_named_with_the_platform(shelf, tmp_path):
    python = Platform(machine="aarch64", python=(3, 13), glibc=(2, 36))
    with pytest.raises(ShipError, match=r"no wheel of onnxruntime for aarch64, Python 3\.13, glibc 2\.36"):
        wheels_for(python, ("numpy", "onnxruntime"), source=shelf, pins={}, cache=tmp_path)


def test_a_missing_folder_of_wheels_is_refused(tmp_path):
    with pytest.raises(ShipError, match="no such folder"):
        wheels_for(PI, ("numpy",), source=tmp_path / "none", cache=tmp_path)


def test_the_cache_serves_without_a_network_and_mends_itself(shelf, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    first = wheels_for(PI, ("pyserial",), pins={}, cache=tmp_path)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert wheels_for(PI, ("pyserial",), pins={}, cache=tmp_path) == first
    assert isinstance(first[0].data, Path)
    damaged = bytearray(first[0].data.read_bytes())
    damaged[40] ^= 1
    first[0].data.write_bytes(damaged)
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    assert wheels_for(PI, ("pyserial",), pins={}, cache=tmp_path) == first


def test_tags_go_down_from_the_devices_own_glibc():
    tags = platform_tags(OLD_PI)
    assert tags[0] == "manylinux_2_27_aarch64"
    assert tags[-2:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64"]
    assert "manylinux1_x86_64" in platform_tags(Platform(machine="x86_64", python=(3, 11), glibc=(2, 36)))


def test_pins_come_from_the_constraints_file_then_from_this_host(tmp_path):
    (tmp_path / "constraints.txt").write_text("# by hand\nNumPy==1.2.3 ; python_version > '3'\nother==1\n")
    pins = preferred(("numpy", "pytest", "no-such-thing"), tmp_path / "constraints.txt")
    assert pins == {"numpy": "1.2.3", "pytest": pytest.__version__}


def test_the_package_is_the_same_archive_every_time(tmp_path):
    assert package_archive(FAKE_RUNTIME) == package_archive(FAKE_RUNTIME)
    package = package_archive()
    assert runtime_id([package]) != runtime_id([package_archive(FAKE_RUNTIME)])
    with zipfile.ZipFile(tmp_path / "x.zip", "w"), pytest.raises(SettingsError, match="no __init__"):
        package_archive(tmp_path)


def test_inference_needs_numpy_beside_onnxruntime_and_nothing_else(tmp_path):
    """Of onnxruntime's declared dependencies, none but numpy is on the device: see that a session runs so."""
    node = helper.make_node("Relu", ["x"], ["y"])
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph([node], "g", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "relu.onnx")
    site = tmp_path / "site"
    site.mkdir()
    for package in (np, onnxruntime):
        folder = Path(package.__file__).parent
        (site / folder.name).symlink_to(folder)
    if (libs := Path(np.__file__).parents[1] / "numpy.libs").is_dir():
        (site / "numpy.libs").symlink_to(libs)
    code = (
        "import sys; sys.path.append(sys.argv[1]); import numpy, onnxruntime;"
        "s = onnxruntime.InferenceSession(sys.argv[2], providers=['CPUExecutionProvider']);"
        "print(s.run(None, {'x': numpy.float32([-1, 2])})[0].tolist())"
    )
    argv = [sys.executable, "-I", "-S", "-c", code, site, tmp_path / "relu.onnx"]
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False)
    assert done.stdout == "[0.0, 2.0]\n", done.stderr
