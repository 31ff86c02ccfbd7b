"""What travels: differences add up, payloads go on where a cut ended them, and what is damaged is refused."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shipping_fakes import fake_options, make_bundle

from benchmarks.delta_bytes import retrained
from host_tools.ship import parcels
from host_tools.ship.delta import delta
from host_tools.ship.deploy import deploy, steps_for
from host_tools.ship.device import connect
from host_tools.ship.device_loop import RefusedError
from host_tools.ship.device_parcels import added, patched
from host_tools.ship.errors import ShipError
from host_tools.ship.facts import PartFacts
from host_tools.ship.parcels import Base, pack
from host_tools.ship.shipped import Shipped

CODECS = ("raw", "zlib", "lzma", "bz2")
BUNDLES = "deploy/bundles"


def sha256(data: bytes) -> str:
    """As hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def edited(data: bytes, seed: int) -> bytes:
    """Some spans of it removed, some put in."""
    rng, out = random.Random(seed), bytearray(data)
    for _ in range(rng.randint(0, 8)):
        at = rng.randint(0, len(out))
        out[at : at + rng.randint(0, 200)] = rng.randbytes(rng.randint(0, 200))
    return bytes(out)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=2000), st.integers(0, 10**6))
def test_the_old_file_and_the_difference_make_the_new_one(data, seed):
    old = data * 3
    new = edited(old, seed)
    assert b"".join(patched(old, delta(old, new))) == new


@given(st.binary(min_size=1, max_size=300), st.randoms(use_true_random=False))
def test_bytes_are_added_as_numpy_adds_them(a, rng):
    b = rng.randbytes(len(a))
    wanted = (np.frombuffer(a, np.uint8) + np.frombuffer(b, np.uint8)).tobytes()
    assert added(a, b) == wanted


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_a_damaged_difference_is_refused_or_makes_another_file(cut):
    old, new = os.urandom(500), os.urandom(500)
    whole = delta(old, new)
    with contextlib.suppress(RefusedError):
        assert b"".join(patched(old, whole[: len(whole) - cut - 1])) != new


def test_a_string_that_moved_is_found_again():
    rng = random.Random(1)
    old = rng.randbytes(50_000)
    new = rng.randbytes(300) + old[:20_000] + rng.randbytes(77) + old[21_000:]
    base = Base(path="x", sha256=sha256(old), contents=old)
    assert pack(sha256(new), new, CODECS, base).payload_bytes < 2 * 377


@pytest.mark.parametrize(("share", "last", "floor"), [(0.02, 3, 0.20), (0.02, None, 0.60)])
@pytest.mark.parametrize("name", ["ecg-beats/trunk.onnx", "ecg-rhythm/model.onnx", "ppg-respiration/model.onnx"])
def test_a_model_that_was_trained_on_costs_a_fraction_of_its_bytes(request, name, share, last, floor):
    old = (request.config.rootpath / BUNDLES / name).read_bytes()
    new = retrained(old, share, last, seed=0)
    assert new != old
    parcel = pack(sha256(new), new, CODECS, Base(path="x", sha256=sha256(old), contents=old))
    assert parcel.base == "x"
    assert parcel.payload_bytes <= floor * len(new)


@pytest.mark.parametrize("codecs", [("raw",), ("raw", "zlib"), CODECS])
def test_a_device_gets_what_it_can_unpack(tmp_path, codecs):
    data = b"weights " * 5000
    parcel = pack(sha256(data), data, codecs)
    assert parcel.codec in codecs
    with connect(f"local:{tmp_path}/device") as device:
        assert device.send([("work/x", parcel)], {}) == parcel.payload_bytes
        assert device.get("work/x") == data


@pytest.mark.parametrize("there", [1, 40_000, 99_999, 100_000])
def test_a_payload_goes_on_where_it_was_cut(tmp_path, there):
    data = os.urandom(100_000)
    parcel = pack(sha256(data), data, CODECS)
    part = tmp_path / "device/incoming/parts" / parcel.payload_sha256
    part.parent.mkdir(parents=True)
    part.write_bytes(data[:there])
    with connect(f"local:{tmp_path}/device") as device:
        parts = device.facts().parts
        assert parts == {parcel.payload_sha256: PartFacts(n_bytes=there, sha256=sha256(data[:there]))}
        assert device.send([("work/x", parcel)], parts) == len(data) - there
        assert device.get("work/x") == data
    assert not part.parent.exists()


def test_a_part_that_is_not_how_the_payload_begins_is_sent_anew(tmp_path):
    data = os.urandom(100_000)
    parcel = pack(sha256(data), data, CODECS)
    part = tmp_path / "device/incoming/parts" / parcel.payload_sha256
    part.parent.mkdir(parents=True)
    part.write_bytes(b"\0" * 50_000)
    with connect(f"local:{tmp_path}/device") as device:
        assert device.send([("work/x", parcel)], device.facts().parts) == len(data)
        assert device.get("work/x") == data


def test_a_deployment_that_was_cut_sends_only_the_rest(tmp_path):
    target = f"local:{tmp_path}/device"
    deploy(make_bundle(tmp_path / "one"), target, options=fake_options())
    model = os.urandom(1_000_000)
    second = make_bundle(tmp_path / "two", model=model)

    def cut(text: str, done: int, total: int) -> None:
        if text == "sending model.onnx" and done > 600_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deploy(second, target, options=fake_options(), progress=cut)
    assert "remove 1 leftovers" in str(steps_for(second, target, options=fake_options())[1])
    assert deploy(second, target, options=fake_options()).bytes_sent < 450_000
    assert list((tmp_path / "device/incoming").iterdir()) == []


@pytest.mark.parametrize("change", ["base", "payload"])
def test_what_does_not_add_up_on_the_device_is_refused_there(tmp_path, change):
    old = b"weights " * 5000
    new = old[:-1] + b"!"
    base = Base(path="work/old", sha256=sha256(old), contents=old)
    parcel = pack(sha256(new), new, CODECS, base)
    assert parcel.base == "work/old"
    with connect(f"local:{tmp_path}/device") as device:
        device.put(old if change != "base" else b"Weights " * 5000, "work/old")
        if change == "payload":
            parcel = parcels.Parcel(**{**vars(parcel), "payload": parcel.payload[:-1] + b"x"})  # type: ignore[index]
        with pytest.raises(ShipError, match="on arrival"):
            device.send([("work/new", parcel)], {})
        assert not (tmp_path / "device" / "work" / "new").exists()
        # The conversation goes on: what was refused has been read to its end.
        assert device.get("work/old")


def test_a_file_that_another_release_has_is_not_sent(tmp_path):
    target, golden = f"local:{tmp_path}/device", os.urandom(300_000)
    deploy(make_bundle(tmp_path / "one", golden=golden), target, options=fake_options())
    second = deploy(make_bundle(tmp_path / "two", golden=golden, model=b"2"), target, options=fake_options())
    assert second.bytes_sent < 10_000
    assert (tmp_path / "device/current/golden/vectors.npz").read_bytes() == golden


def test_a_host_that_does_not_know_the_old_file_sends_the_new_one_whole(tmp_path, monkeypatch):
    target = f"local:{tmp_path}/device"
    model = os.urandom(50_000)
    deploy(make_bundle(tmp_path / "one", model=model), target, options=fake_options())
    changed = make_bundle(tmp_path / "two", model=model[:-1] + b"!")
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("VITALEDGE_CACHE", str(tmp_path / "another host"))
        whole = deploy(changed, target, options=fake_options())
    third = deploy(make_bundle(tmp_path / "three", model=model[:-1] + b"?"), target, options=fake_options())
    assert whole.bytes_sent > 50_000
    assert third.bytes_sent < 2_000


def test_what_was_shipped_is_known_again_until_it_is_damaged(tmp_path):
    shipped = Shipped(tmp_path / "shipped")
    (tmp_path / "file").write_bytes(b"contents")
    key = sha256(b"contents")
    assert shipped.read(key) is None
    shipped.keep(tmp_path / "file", key)
    shipped.tidy()
    assert shipped.known([key, "other"]) == {key}
    assert shipped.read(key) == b"contents"
    (tmp_path / "shipped" / key).write_bytes(b"Contents")
    assert shipped.read(key) is None
    assert shipped.known([key]) == frozenset()
