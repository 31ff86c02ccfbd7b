"""`vitaledge deploy` with several targets: each has an end of its own, and a line that names it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from shipping_fakes import fake_options, make_bundle

from edge_runtime.contract.errors import BundleError, SettingsError
from host_tools.cli import main
from host_tools.ship.deploy import status
from host_tools.ship.deploy_command import deploy_each
from host_tools.ship.errors import ShipError

DEAD = "ssh://127.0.0.1:1/x"


def asked(bundle: Path, *targets: str, plan: bool = False, as_json: bool = False) -> argparse.Namespace:
    """What the command line hands on."""
    return argparse.Namespace(bundle=bundle, targets=list(targets), plan=plan, json=as_json)


def two(tmp_path: Path) -> tuple[str, str]:
    """Two folders of this machine."""
    return f"local:{tmp_path}/a", f"local:{tmp_path}/b"


def test_a_dead_target_stops_no_other_and_each_has_its_line(tmp_path, capsys):
    a, b = two(tmp_path)
    assert deploy_each(asked(make_bundle(tmp_path / "bundle"), a, DEAD, b), fake_options()) == 1
    release = status(a).current
    assert release is not None
    assert status(b).current == release
    said = capsys.readouterr()
    assert [line.split(": ")[0] for line in said.out.splitlines()] == [
        f"{release} is active on {a}",
        f"{release} is active on {b}",
    ]
    told = [line for line in said.err.splitlines() if line.startswith("vitaledge: ")]
    assert len(told) == 1
    assert told[0].startswith(f"vitaledge: {DEAD}: no sshd listens there")


def test_where_all_is_well_the_exit_code_is_nought(tmp_path):
    assert deploy_each(asked(make_bundle(tmp_path / "bundle"), *two(tmp_path)), fake_options()) == 0


def test_a_release_that_fails_on_one_is_told_and_tried_on_the_next(tmp_path, capsys):
    a, b = two(tmp_path)
    (tmp_path / "a").write_text("a file where a folder is wanted")
    assert deploy_each(asked(make_bundle(tmp_path / "bundle"), a, b), fake_options()) == 1
    assert f"vitaledge: {a}: " in capsys.readouterr().err
    assert status(b).current is not None


def test_each_target_is_one_object_also_one_that_failed(tmp_path, capsys):
    a, b = two(tmp_path)
    assert deploy_each(asked(make_bundle(tmp_path / "bundle"), a, DEAD, b, as_json=True), fake_options()) == 1
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["target"] for one in said] == [a, DEAD, b]
    assert [("release" in one, "error" in one) for one in said] == [(True, False), (False, True), (True, False)]


def test_a_plan_of_several_names_each_target_and_changes_nothing(tmp_path, capsys):
    a, b = two(tmp_path)
    bundle = make_bundle(tmp_path / "bundle")
    deploy_each(asked(bundle, a), fake_options())
    capsys.readouterr()
    assert deploy_each(asked(bundle, a, b, plan=True), fake_options()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{a}: nothing to do"
    assert lines[1].startswith(f"{b}: ask the device whether it trusts ")
    assert all(line.startswith(f"{b}: ") for line in lines[1:])
    assert not (tmp_path / "b").exists()
    assert deploy_each(asked(bundle, a, b, plan=True, as_json=True), fake_options()) == 0
    found = {one["target"]: one["steps"] for one in map(json.loads, capsys.readouterr().out.splitlines())}
    assert found[a] == []
    assert [f"{b}: {step}" for step in found[b]] == lines[1:]


def test_what_no_target_could_take_is_refused_before_the_first_is_touched(tmp_path):
    a, b = two(tmp_path)
    bundle = make_bundle(tmp_path / "bundle")
    with pytest.raises(SettingsError, match="target starts with 'gw3'"):
        deploy_each(asked(bundle, a, b, "gw3"), fake_options())
    with pytest.raises(SettingsError, match="is named twice"):
        deploy_each(asked(bundle, a, b, f"local:{tmp_path}//a"), fake_options())
    (bundle / "model.onnx").write_bytes(b"other bytes")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        deploy_each(asked(bundle, a, b), fake_options())
    assert not (tmp_path / "a").exists()


def test_a_single_target_says_why_it_failed_as_before(tmp_path, capsys):
    bundle = make_bundle(tmp_path / "bundle")
    with pytest.raises(ShipError, match="no sshd listens there"):
        deploy_each(asked(bundle, DEAD), fake_options())
    assert main(["deploy", str(bundle), DEAD]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("vitaledge: ssh://127.0.0.1:1: no sshd listens there")
