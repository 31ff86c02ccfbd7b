"""A device whose disk is full, before or during a deployment; needs root for a small file system."""

from __future__ import annotations

import contextlib
import os
import subprocess

import pytest
from shipping_fakes import fake_options, make_bundle

from host_tools.ship.deploy import deploy, status, steps_for
from host_tools.ship.errors import ShipError

SIZE = 16 << 20


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 16 MiB."""
    if os.getuid() != 0:
        pytest.skip("needs root: mounts a small tmpfs")
    place = tmp_path / "disk"
    place.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"needs to mount a tmpfs: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_too_little_room_is_told_before_anything_is_sent(small_disk, tmp_path):
    target = f"local:{small_disk}/device"
    first = deploy(make_bundle(tmp_path / "one"), target, options=fake_options())
    large = make_bundle(tmp_path / "two", model=os.urandom(10 << 20))
    for verb in (steps_for, deploy):
        with pytest.raises(ShipError, match=r"MiB free at .* MiB wanted"):
            verb(large, target, options=fake_options())
    facts = status(target)
    assert (facts.current, list(facts.releases)) == (first.release, [first.release])


def test_a_disk_that_fills_up_meanwhile_leaves_the_previous_release(small_disk, tmp_path):
    target, filler = f"local:{small_disk}/device", small_disk / "filler"
    first = deploy(make_bundle(tmp_path / "one"), target, options=fake_options())
    second = make_bundle(tmp_path / "two", model=os.urandom(3 << 20))

    def fill(text: str, done: int, total: int) -> None:
        if text.startswith("send release"):
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
                while stream.write(bytes(1 << 16)):
                    pass

    with pytest.raises(ShipError, match="the disk is full"):
        deploy(second, target, options=fake_options(), progress=fill)
    assert os.readlink(small_disk / "device/current") == f"releases/{first.release}"
    assert list((small_disk / "device/incoming").rglob("*.part")) == []
    filler.unlink()
    deploy(second, target, options=fake_options())
    assert (small_disk / "device/current/model.onnx").read_bytes() == (second / "model.onnx").read_bytes()
