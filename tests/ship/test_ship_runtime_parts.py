"""Of a new runtime travels what the device lacks: wheels by their contents, `edge_runtime` as a difference."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from shipping_fakes import FAKE_RUNTIME, fake_options, make_bundle

import edge_runtime
from host_tools.ship.archives import package_archive
from host_tools.ship.deploy import deploy, status
from host_tools.ship.facts import Facts, ReleaseFacts, RuntimeFacts
from host_tools.ship.plan import File, PushRuntime, There, UnpackRuntime, Wish, plan


@pytest.fixture
def packages(tmp_path):
    """A runtime of many lines, and the same with one of them changed."""
    words = random.Random(7)
    lines = [f"X{i} = {words.getrandbits(200)}" for i in range(2000)]
    for name in ("old", "new"):
        package = tmp_path / name / "edge_runtime"
        shutil.copytree(FAKE_RUNTIME, package, ignore=shutil.ignore_patterns("__pycache__"))
        (package / "many.py").write_text("\n".join(lines))
        lines[1000] = "X1000 = 'another, and longer'"
    return tmp_path / "old" / "edge_runtime", tmp_path / "new" / "edge_runtime"


def sites(root):
    """The sources of every runtime there."""
    return {
        path.parent.name: {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*.py"))}
        for path in root.glob("runtime/*/site")
    }


def test_a_changed_line_costs_little_more_than_the_line(tmp_path, packages):
    target, bundle = f"local:{tmp_path}/device", make_bundle(tmp_path / "bundle")
    first = deploy(bundle, target, options=fake_options(runtime_package=packages[0]))
    again = deploy(bundle, target, options=fake_options(runtime_package=packages[1]))
    assert first.bytes_sent > 50_000
    assert again.bytes_sent < 2_000
    assert any("1 as a difference" in step for step in again.steps)
    wanted = {f"edge_runtime/{f.name}": f.read_bytes() for f in sorted(packages[1].glob("*.py"))}
    assert wanted in sites(tmp_path / "device").values()
    assert deploy(bundle, target, options=fake_options(runtime_package=packages[1])).steps == ()


@pytest.mark.parametrize("missing", ["on the device", "here"])
def test_where_one_side_has_no_older_archive_the_new_one_is_sent_whole(tmp_path, packages, missing, monkeypatch):
    target, bundle = f"local:{tmp_path}/device", make_bundle(tmp_path / "bundle")
    deploy(bundle, target, options=fake_options(runtime_package=packages[0]))
    if missing == "here":
        monkeypatch.setenv("VITALEDGE_CACHE", str(tmp_path / "another cache"))
    else:
        # Damaged counts as missing: a difference to it would be wrong.
        next((tmp_path / "device").glob("runtime/*/edge_runtime.zip")).write_bytes(b"damaged")
    again = deploy(bundle, target, options=fake_options(runtime_package=packages[1]))
    assert again.bytes_sent > 50_000
    assert status(target).current == again.release


def test_a_mended_runtime_keeps_its_archive(tmp_path, packages):
    target, bundle = f"local:{tmp_path}/device", make_bundle(tmp_path / "bundle")
    deploy(bundle, target, options=fake_options(runtime_package=packages[0]))
    site = next((tmp_path / "device").glob("runtime/*/site"))
    kept = site.parent / "edge_runtime.zip"
    contents = kept.read_bytes()
    (site / "edge_runtime" / "many.py").write_text("X = 1")
    mended = deploy(bundle, target, options=fake_options(runtime_package=packages[0]))
    # What is there already is the best to make a difference to.
    assert mended.bytes_sent < 2_000
    assert kept.read_bytes() == contents
    assert (site / "edge_runtime" / "many.py").read_bytes() == (packages[0] / "many.py").read_bytes()


def test_the_package_is_the_same_bytes_every_time_and_unpacks_to_itself(tmp_path):
    first, second = package_archive(), package_archive()
    assert first == second
    (tmp_path / "edge_runtime.zip").write_bytes(bytes(first.data))
    shutil.unpack_archive(tmp_path / "edge_runtime.zip", tmp_path / "out")
    folder = Path(next(iter(edge_runtime.__path__)))
    wanted = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*.py")}
    found = tmp_path / "out" / "edge_runtime"
    assert {str(f.relative_to(found)): f.read_bytes() for f in found.rglob("*") if f.is_file()} == wanted


NUMPY = File(name="numpy-2.whl", sha256="n" * 64, n_bytes=16_000_000, unpacked_bytes=60_000_000)
ENGINE = File(name="onnxruntime-1.whl", sha256="o" * 64, n_bytes=20_000_000, unpacked_bytes=60_000_000)
PACKAGE = File(name="edge_runtime.zip", sha256="e" * 64, n_bytes=600_000, unpacked_bytes=600_000)
WISH = Wish(release="ecg-2", files=(), runtime="new", archives=(NUMPY, ENGINE, PACKAGE), launcher="exec it")


def device(archives, kept, current="ecg-1"):
    """A device whose active release has a runtime `old`."""
    return Facts(
        schema=1,
        executable="/usr/bin/python3",
        python=(3, 11, 2),
        implementation="cpython",
        machine="aarch64",
        bits=64,
        libc="glibc",
        libc_version="2.36",
        root="/home/pi/v",
        has_root=True,
        free_bytes=10**10,
        memory_bytes=10**9,
        releases={"ecg-1": ReleaseFacts(runtime="old", files={})},
        runtimes={"old": RuntimeFacts(archives=dict.fromkeys(archives, True), kept=kept)},
        launcher="",
        current=current,
        history=("ecg-1",),
        incoming=(),
    )


@pytest.mark.parametrize("changed", [NUMPY, ENGINE, PACKAGE])
def test_of_wheels_only_the_one_that_differs_travels(changed):
    there = [archive.sha256 for archive in WISH.archives if archive != changed]
    steps = plan(device(there, {}), WISH)
    assert [step for step in steps if isinstance(step, PushRuntime)] == [PushRuntime(files=(changed,))]
    rest = tuple(archive for archive in WISH.archives if archive != changed)
    assert UnpackRuntime(runtime="new", sent=(changed,), reused=rest) in steps


def test_a_difference_is_planned_only_to_what_both_sides_have():
    facts = device([NUMPY.sha256, ENGINE.sha256], {"edge_runtime.zip": "k" * 64})
    there = There(name="edge_runtime.zip", path="runtime/old/edge_runtime.zip", sha256="k" * 64)
    knowing = replace(WISH, known=frozenset({"k" * 64}))
    assert PushRuntime(files=(PACKAGE,), bases=(there,)) in plan(facts, knowing)
    assert PushRuntime(files=(PACKAGE,)) in plan(facts, WISH)
    assert PushRuntime(files=(PACKAGE,), bases=(there,)) in plan(replace(facts, current=None), knowing)
