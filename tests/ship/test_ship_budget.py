"""A bundle's own budget: read strictly, held by deployments, overridden by what they are told, and set by a command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from shipping_fakes import fake_options, make_bundle, make_key

from edge_runtime.contract.budget import Budget
from edge_runtime.contract.bundle import open_bundle
from edge_runtime.contract.errors import BundleError
from edge_runtime.contract.manifest import from_json, to_json
from host_tools.cli import main
from host_tools.ship.deploy import deploy, rollback, status, steps_for
from host_tools.ship.errors import ShipError
from host_tools.ship.options import Limits
from host_tools.ship.signing import SIGNATURE, sign_bundle

TIGHT = Budget(max_hop_ms=2.0, max_memory_mib=64.0)
COST = {"hop_ms": 1.5, "memory_mib": 60.0}


def test_a_manifest_without_a_budget_reads_and_is_written_as_before(tmp_path):
    text = (make_bundle(tmp_path / "bundle") / "manifest.json").read_text()
    assert "budget" not in text
    assert from_json(text, "m").budget is None
    assert to_json(from_json(text, "m")) == text


def test_a_budget_survives_being_written_and_read(tmp_path):
    text = (make_bundle(tmp_path / "bundle", budget=TIGHT) / "manifest.json").read_text()
    assert from_json(text, "m").budget == TIGHT
    alone = json.loads(text) | {"budget": {"max_hop_ms": 3}}
    assert from_json(json.dumps(alone), "m").budget == Budget(max_hop_ms=3.0)


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"max_hop_s": 1.0}, "unknown key 'max_hop_s'"),
        ({"max_hop_ms": "2"}, "m.budget.max_hop_ms is '2'"),
        ({"max_hop_ms": 0}, "max_hop_ms is 0; a positive number wanted"),
        ({"max_memory_mib": -1.0}, "max_memory_mib is -1"),
        ({"max_hop_ms": float("nan")}, "a positive number wanted"),
        ({"max_hop_ms": float("inf")}, "a positive number wanted"),
        ({}, "a budget without a number"),
        ([], "a table wanted"),
    ],
)
def test_a_budget_that_nothing_can_hold_is_refused_by_its_key(tmp_path, budget, words):
    value = json.loads((make_bundle(tmp_path / "bundle") / "manifest.json").read_text()) | {"budget": budget}
    with pytest.raises(BundleError, match=words):
        from_json(json.dumps(value), "m")


def test_what_a_deployment_is_told_counts_before_the_bundles_own():
    assert Limits().with_budget(TIGHT) == Limits(max_block_ms=2.0, max_memory_mib=64.0)
    told = Limits(max_block_ms=9.0, exact=True)
    assert told.with_budget(TIGHT) == Limits(max_block_ms=9.0, max_memory_mib=64.0, exact=True)
    assert told.with_budget(None) == told


@pytest.fixture
def device(tmp_path):
    """A device on which a release without a budget is active."""
    target = f"local:{tmp_path}/device"
    deploy(make_bundle(tmp_path / "first"), target, options=fake_options())
    return target


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        ({"hop_ms": 2.5, "memory_mib": 60.0}, "a hop takes 2.500 ms here .p99.; 2 ms is the budget"),
        ({"hop_ms": 1.5, "memory_mib": 65.0}, "its check took 65 MiB of memory; 64 MiB is the budget"),
        ({}, "its check does not say how long a hop takes"),
    ],
)
def test_a_release_above_its_bundles_budget_never_becomes_active(tmp_path, device, cost, words):
    before = status(device).current
    with pytest.raises(ShipError, match=f"before the switch, so nothing was switched: {words}"):
        deploy(make_bundle(tmp_path / "second", budget=TIGHT, **cost), device, options=fake_options())
    assert status(device).current == before


def test_a_release_that_costs_too_much_only_when_it_is_active_makes_way(tmp_path, device):
    before = status(device).current
    second = make_bundle(tmp_path / "second", budget=TIGHT, as_current=2.0, **COST)
    with pytest.raises(ShipError, match=rf"failed after the switch: a hop takes 3.000 ms.*{before} is active there"):
        deploy(second, device, options=fake_options())
    assert status(device).current == before


def test_a_release_within_its_budget_is_taken_and_asked_what_it_costs(tmp_path, device):
    done = deploy(make_bundle(tmp_path / "second", budget=TIGHT, **COST), device, options=fake_options())
    assert status(device).current == done.release
    assert json.loads(done.check)["block_p99_ns"] == 1_500_000


def test_an_option_widens_or_lifts_the_bundles_budget(tmp_path, device):
    second = make_bundle(tmp_path / "second", budget=TIGHT, hop_ms=2.5, memory_mib=99.0)
    wide = Limits(max_block_ms=3.0, max_memory_mib=float("inf"))
    assert deploy(second, device, options=fake_options(limits=wide)).release == status(device).current


def test_an_option_narrows_the_bundles_budget(tmp_path, device):
    second = make_bundle(tmp_path / "second", budget=TIGHT, **COST)
    with pytest.raises(ShipError, match="1 ms is the budget"):
        deploy(second, device, options=fake_options(limits=Limits(max_block_ms=1.0)))


def test_a_roll_back_is_held_to_what_it_is_told_alone(tmp_path, device):
    second = deploy(make_bundle(tmp_path / "second", budget=TIGHT, **COST), device, options=fake_options()).release
    deploy(make_bundle(tmp_path / "third", model=b"three"), device, options=fake_options())
    # It was proved when it became active; a way back must not close because the device is busier now.
    manifest = Path(device.removeprefix("local:")) / "releases" / second / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"hop_ms": 1.5', '"hop_ms": 5.0'))
    with pytest.raises(ShipError, match=r"a hop takes 5\.000 ms"):
        rollback(device, options=fake_options(limits=Limits(max_block_ms=2.0)))
    assert rollback(device, options=fake_options()).release == second


def test_the_plan_names_the_budget_that_will_be_held(tmp_path, device):
    bundle = make_bundle(tmp_path / "second", budget=TIGHT, **COST)
    lines = [str(step) for step in steps_for(bundle, device, options=fake_options())]
    assert [line.partition("; ")[2] for line in lines if line.startswith("check ")] == [
        "its budget: a hop in 2 ms (p99), 64 MiB of memory"
    ]
    told = fake_options(limits=Limits(max_block_ms=9.0))
    assert any("a hop in 9 ms (p99), 64 MiB" in str(step) for step in steps_for(bundle, device, options=told))
    plain = steps_for(make_bundle(tmp_path / "third", model=b"3"), device, options=fake_options())
    assert not any("budget" in str(step) for step in plain)


def test_the_command_sets_shows_and_takes_away(tmp_path, capsys):
    bundle = make_bundle(tmp_path / "bundle")
    text = (bundle / "manifest.json").read_text()
    assert main(["budget", str(bundle)]) == 0
    assert capsys.readouterr().out.endswith(": no budget\n")
    assert main(["budget", str(bundle), "--max-hop-ms", "2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["budget"] == {"max_hop_ms": 2.0, "max_memory_mib": None}
    assert said["bundle"] == open_bundle(bundle).id
    assert main(["budget", str(bundle), "--max-hop-ms", "0"]) == 1
    assert "max_hop_ms is 0; a positive number wanted" in capsys.readouterr().err
    assert main(["budget", str(bundle), "--none", "--max-hop-ms", "2"]) == 1
    assert main(["budget", str(bundle), "--none"]) == 0
    assert (bundle / "manifest.json").read_text() == text


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen: openssh-client")
def test_another_budget_takes_the_signature_away_and_the_same_one_does_not(tmp_path):
    bundle: Path = make_bundle(tmp_path / "bundle", budget=TIGHT)
    make_key(tmp_path / "key")
    sign_bundle(bundle, tmp_path / "key")
    assert main(["budget", str(bundle), "--max-hop-ms", "2", "--max-memory", "64"]) == 0
    assert (bundle / SIGNATURE).is_file()
    assert main(["budget", str(bundle), "--max-hop-ms", "3"]) == 0
    assert not (bundle / SIGNATURE).exists()
