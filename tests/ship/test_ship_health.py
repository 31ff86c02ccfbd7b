"""What a release must hold: limits as values, what a check found against them, and the gate without a service."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from shipping_fakes import fake_options, make_bundle

from edge_runtime.contract.errors import SettingsError
from host_tools.cli import main
from host_tools.ship.deploy import deploy, status
from host_tools.ship.device_gate import orders, over_budget
from host_tools.ship.errors import ShipError
from host_tools.ship.options import Limits

# As `edge-runtime check --json --timing` says it: longer than what a message quotes.
FOUND = {"bundle": "b" * 300, "is_equal": False, "block_p99_ns": 2_500_000, "peak_rss_bytes": 64 << 20}


def verdict(found, **limits):
    """What is wrong, if anything."""
    return over_budget(b"noise\n" + json.dumps(found).encode() + b"\n", asdict(Limits(**limits)))


@pytest.mark.parametrize(
    ("limits", "wrong"),
    [
        ({}, ""),
        ({"max_block_ms": 2.5}, ""),
        ({"max_block_ms": 2.4}, "a hop takes 2.500 ms here (p99); 2.4 ms is the budget"),
        ({"max_memory_mib": 64.0}, ""),
        ({"max_memory_mib": 63.0}, "its check took 64 MiB of memory; 63 MiB is the budget"),
        ({"exact": True}, "its golden vectors are not answered exactly"),
    ],
)
def test_a_check_is_held_against_the_budgets(limits, wrong):
    assert verdict(FOUND, **limits) == wrong


def test_a_check_that_does_not_say_what_is_wanted_does_not_pass():
    assert "does not say how long" in verdict({}, max_block_ms=1.0)
    assert "does not say what it found" in over_budget(b"", asdict(Limits(exact=True)))
    assert verdict({**FOUND, "is_equal": True}, exact=True) == ""


@pytest.mark.parametrize("limits", [{"max_block_ms": 0.0}, {"max_memory_mib": -1.0}, {"reading_s": -1.0}])
def test_limits_that_nobody_can_hold_are_refused(limits):
    with pytest.raises(SettingsError, match="a positive number wanted"):
        Limits(**limits)
    assert Limits(reading_s=0.0).reading_s == 0.0


def test_a_service_that_hangs_is_killed_and_one_that_failed_too_often_may_start_again():
    assert [o[0] for o in orders("kill", "x.service")] == ["kill", "reset-failed", "restart"]
    assert [o[0] for o in orders("restart", "x.service")] == ["reset-failed", "restart"]
    assert [o[0] for o in orders("stop", "x.service")] == ["stop"]


def test_without_a_service_the_gate_is_the_check_and_a_failure_goes_back(tmp_path):
    target = f"local:{tmp_path}/device"
    first = deploy(make_bundle(tmp_path / "one"), target, options=fake_options())
    assert (first.first_reading, first.memory_bytes) == ("", 0)
    bad = make_bundle(tmp_path / "two", model=b"two", fails_as_current=1.0)
    with pytest.raises(ShipError, match=rf"failed after the switch: .*{first.release} is active there, after"):
        deploy(bad, target, options=fake_options())
    assert status(target).current == first.release


def test_budgets_are_held_before_the_switch(tmp_path):
    target, bundle = f"local:{tmp_path}/device", make_bundle(tmp_path / "one")
    with pytest.raises(ShipError, match="before the switch, so nothing was switched: its golden vectors"):
        # The fake runtime's check says nothing of exactness.
        deploy(bundle, target, options=fake_options(limits=Limits(exact=True)))
    assert status(target).current is None


def test_a_slow_check_is_ended(tmp_path):
    bundle = make_bundle(tmp_path / "one", check_takes_s=30.0)
    with pytest.raises(ShipError, match="did not end within 1 s"):
        deploy(bundle, f"local:{tmp_path}/device", options=fake_options(limits=Limits(check_s=1.0)))


def test_the_command_line_takes_limits(tmp_path, capsys):
    bundle = make_bundle(tmp_path / "one")
    for option, text in (
        ("--max-hop-ms", "0"),
        ("--max-hop-ms", "-3"),
        ("--max-memory", "nan"),
        ("--reading-within", "-1"),
    ):
        assert main(["deploy", str(bundle), f"local:{tmp_path}/device", f"{option}={text}"]) == 1
        assert capsys.readouterr().err == f"vitaledge: {option} is {text}; a positive number wanted\n"
    assert not (tmp_path / "device").exists()
