"""Fleets of folders on this machine: waves, hosts that are dead, fail or become slower, and the other verbs."""

from __future__ import annotations

import io
import json
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1] / "ship"))
from shipping_fakes import fake_options, make_bundle

from host_tools.cli import main
from host_tools.fleet import verbs
from host_tools.fleet.deploy import Rollout, deploy_to, plans_for
from host_tools.fleet.inventory import Host
from host_tools.fleet.run import run_on
from host_tools.fleet.table import result_table
from host_tools.fleet.waves import Limits
from host_tools.ship.deploy import deploy, status, steps_for

# The fake runtime, with a check that takes as long as the bundle says.
TIMED = """
import json, sys
from pathlib import Path
verb, folder, *_ = sys.argv[1:]
if verb != "check":
    print(json.dumps(sys.argv[1:])); sys.exit(verb == "fail")
metrics = json.loads((Path(folder) / "manifest.json").read_text())["metrics"]
if metrics.get("fails"):
    sys.exit("golden vector 3: beat at 812 expected, none found")
print(json.dumps({"ok": True, "block_p50_ns": int(metrics.get("p50", 50_000)), "given": 1, "wanted": 1}))
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("VITALEDGE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def options(tmp_path):
    """Options that ship a runtime whose check can be timed."""
    package = tmp_path / "edge_runtime"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(TIMED)
    return fake_options(runtime_package=package, connect_timeout_s=0.5)


def hosts(tmp_path, *names):
    """Folders of this machine; one whose name starts with `dead` is behind a port that nobody listens at."""
    return tuple(
        Host(
            name=name,
            target="ssh://127.0.0.1:1/x" if name.startswith("dead") else f"local:{tmp_path}/{name}",
            groups=(),
            variables={"host": name, "source": f"synthetic:?name={name}"},
        )
        for name in names
    )


def states(outcomes):
    """What became of whom."""
    return {one.host: one.state for one in outcomes}


def test_a_dead_host_stops_nobody_and_is_no_canary(tmp_path, options):
    there = hosts(tmp_path, "dead1", "a", "b", "dead2", "c")
    outcomes, stopped = deploy_to(make_bundle(tmp_path / "bundle"), there, options, Rollout())
    assert stopped == ""
    assert states(outcomes) == {"dead1": "away", "a": "done", "b": "done", "dead2": "away", "c": "done"}
    # A tenth of five is one; where the canary is dead, the next host takes its place in the first wave.
    assert {one.host: one.wave for one in outcomes} == {"dead1": 1, "a": 1, "b": 3, "dead2": 3, "c": 3}
    again, _ = deploy_to(make_bundle(tmp_path / "bundle2"), there, options, Rollout())
    assert [one.answer["steps"] for one in again if one.state == "done"] == [()] * 3


def test_a_canary_that_fails_is_the_only_one_that_was_touched(tmp_path, options):
    there = hosts(tmp_path, "a", "b", "c", "d")
    good, _ = deploy_to(make_bundle(tmp_path / "good"), there, options, Rollout())
    bad = make_bundle(tmp_path / "bad", fails=1.0)
    outcomes, stopped = deploy_to(bad, there, options, Rollout())
    assert stopped == "1 failed, 0 may"
    assert states(outcomes) == {"a": "failed", "b": "left", "c": "left", "d": "left"}
    assert "golden vector 3" in outcomes[0].message
    for host in there:
        assert status(host.target).current == good[0].answer["release"]


def test_where_the_canary_is_dead_the_next_host_is_the_canary(tmp_path, options):
    bad = make_bundle(tmp_path / "bad", fails=1.0)
    there = hosts(tmp_path, "dead", "a", "b", "c")
    outcomes, stopped = deploy_to(bad, there, options, Rollout(waves=("1", "all")))
    assert stopped == "1 failed, 0 may"
    assert states(outcomes) == {"dead": "away", "a": "failed", "b": "left", "c": "left"}


def test_a_slower_release_is_taken_back_and_goes_no_further(tmp_path, options):
    there = hosts(tmp_path, "a", "b", "c")
    good, _ = deploy_to(make_bundle(tmp_path / "good", p50=50_000), there, options, Rollout())
    slow = make_bundle(tmp_path / "slow", p50=90_000)
    outcomes, stopped = deploy_to(slow, there, options, Rollout())
    assert stopped == "1 regressed"
    assert states(outcomes) == {"a": "regressed", "b": "left", "c": "left"}
    assert "1.80 times as long as before" in outcomes[0].message
    for host in there:
        assert status(host.target).current == good[0].answer["release"]
    outcomes, stopped = deploy_to(slow, there, options, Rollout(limits=Limits(slower=2.0)))
    assert (stopped, set(states(outcomes).values())) == ("", {"done"})
    assert outcomes[0].answer["after"]["block_p50_ns"] == 90_000


def named(bundle, name):
    """The bundle under another name."""
    path = bundle / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": name}))
    return bundle


def test_another_bundle_is_not_compared_with_the_one_before_and_the_answer_says_so(tmp_path, options):
    there = hosts(tmp_path, "a", "b")
    first, _ = deploy_to(named(make_bundle(tmp_path / "quick", p50=1_000), "heart"), there, options, Rollout())
    assert {one.answer["not_compared"] for one in first} == {"no release was there before"}
    slow = named(make_bundle(tmp_path / "slow", p50=90_000), "ecg-rhythm")
    outcomes, stopped = deploy_to(slow, there, options, Rollout())
    assert (stopped, set(states(outcomes).values())) == ("", {"done"})
    assert {one.answer["not_compared"] for one in outcomes} == {"heart was there before"}
    assert "before" not in outcomes[0].answer
    release = str(outcomes[0].answer["release"])
    with io.StringIO() as text:
        Console(file=text, width=300).print(result_table(outcomes, "release"))
        assert text.getvalue().count(f"{release} (not compared: heart was there before)") == 2
    # The same bundle again is compared with what it was.
    slower = named(make_bundle(tmp_path / "slower", p50=900_000), "ecg-rhythm")
    outcomes, stopped = deploy_to(slower, there, options, Rollout())
    assert (stopped, outcomes[0].state) == ("1 regressed", "regressed")
    assert status(there[0].target).current == release


def test_a_plan_of_a_fleet_changes_nothing_and_says_it_for_each_host(tmp_path, options):
    there = hosts(tmp_path, "a", "dead", "b", "c")
    bundle = make_bundle(tmp_path / "bundle")
    deploy(bundle, there[0].target, options=options)
    outcomes = plans_for(bundle, there, options, Rollout(waves=("1", "2", "all")))
    assert states(outcomes) == {"a": "done", "dead": "away", "b": "done", "c": "done"}
    assert outcomes[0].answer["steps"] == []
    wanted = [str(step) for step in steps_for(bundle, there[2].target, options=options)]
    assert wanted
    assert outcomes[2].answer["steps"] == outcomes[3].answer["steps"] == wanted
    assert [one.wave for one in outcomes] == [1, 2, 2, 3]
    assert not (tmp_path / "b").exists()


def test_as_many_may_fail_as_were_allowed(tmp_path, options):
    there = hosts(tmp_path, "a", "b", "c")
    (tmp_path / "b").write_text("a file where a folder is wanted")
    rollout = Rollout(waves=("1", "1", "all"), limits=Limits(failures=1))
    outcomes, stopped = deploy_to(make_bundle(tmp_path / "bundle"), there, options, rollout)
    assert (stopped, states(outcomes)) == ("", {"a": "done", "b": "failed", "c": "done"})


def test_connections_are_bounded_and_side_by_side(tmp_path, options):
    lock, now, most = threading.Lock(), 0, 0
    side_by_side = threading.Barrier(3)

    def work(host, device, say):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        side_by_side.wait(60)
        with lock:
            now -= 1
        return {}

    there = hosts(tmp_path, *(f"h{i}" for i in range(9)))
    assert set(states(run_on(there, work, options, at_once=3)).values()) == {"done"}
    assert most == 3


def test_the_other_verbs_answer_for_each_host(tmp_path, options):
    there = hosts(tmp_path, "a", "b")
    for version in (b"1", b"2"):
        for host in there:
            deploy(make_bundle(tmp_path / f"{host.name}{version!r}", model=version), host.target, options=options)
    found = run_on(there, verbs.status, options)
    assert found[0].answer["current"] == found[1].answer["current"]
    ran = run_on(there, verbs.execute(["run", "{current}", "{source}"], 30.0), options)
    wanted = ["run", f"{tmp_path}/b/current", "synthetic:?name=b"]
    assert json.loads(str(ran[1].answer["output"])) == wanted
    assert states(run_on(there, verbs.execute(["fail"], 30.0), options)) == {"a": "failed", "b": "failed"}
    work = tmp_path / "a" / "work"
    work.mkdir()
    (work / "report-1.json").write_text("{}")
    (work / "report-2.json").symlink_to("/etc/passwd")
    patterns = ["work/report-*.json", "../b/history.json", "/etc/passwd"]
    got = run_on(there, verbs.collect(tmp_path / "out", patterns, 30.0), options)
    assert got[0].answer["files"] == ["status.json", "check.json", "work/report-1.json"]
    assert json.loads((tmp_path / "out/b/check.json").read_text())["ok"]
    back = run_on(there, verbs.rollback(None, options), options)
    assert set(states(back).values()) == {"done"}
    assert status(there[0].target).current == found[0].answer["history"][0]


def test_the_command_says_it_all_as_json_and_by_its_exit_code(tmp_path, options, capsys):
    for host in hosts(tmp_path, "a", "b"):
        deploy(make_bundle(tmp_path / f"bundle-{host.name}"), host.target, options=options)
    inventory = tmp_path / "ward.toml"
    inventory.write_text(f'schema = 1\ntarget = "local:{tmp_path}/{{host}}"\n[hosts.a]\n[hosts.b]\n')
    assert main(["fleet", str(inventory), "status", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["verb"], said["stopped"], [one["state"] for one in said["hosts"]]) == ("status", None, ["done"] * 2)
    assert main(["fleet", str(inventory), "exec", "--", "run", "{host}"]) == 0
    assert capsys.readouterr().out.splitlines() == ['a: ["run", "a"]', 'b: ["run", "b"]']
    inventory.write_text(inventory.read_text() + '[hosts.dead]\ntarget = "ssh://127.0.0.1:1/x"\n')
    assert main(["fleet", str(inventory), "status"]) == 1
    captured = capsys.readouterr()
    assert "dead: away: ssh://127.0.0.1:1: no sshd listens there" in captured.err
    assert main(["fleet", str(inventory), "status", "--only", "a"]) == 0


@pytest.fixture
def ward(tmp_path, options):
    """The inventory of two hosts with a release."""
    for host in hosts(tmp_path, "a", "b"):
        deploy(make_bundle(tmp_path / f"bundle-{host.name}"), host.target, options=options)
    path = tmp_path / "ward.toml"
    path.write_text(f'schema = 1\ntarget = "local:{tmp_path}/{{host}}"\n[hosts.a]\n[hosts.b]\n')
    return str(path)


def test_a_program_that_fails_is_told_once(ward, capsys):
    assert main(["fleet", ward, "exec", "--only", "a", "--", "fail"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("a: failed: ")
    assert "edge-runtime fail ended with 1" in said.err


def test_a_variable_that_is_not_set_is_found_before_any_host_is_reached(ward, capsys):
    assert main(["fleet", ward, "exec", "--", "check", "{currnt}"]) == 1
    wanted = "host a: variable {currnt} is not set; set are current, host, root"
    assert capsys.readouterr().err == f"vitaledge: {wanted}\n"
    assert main(["fleet", ward, "exec", "--", "run", "{current}", "{root}", "{host}"]) == 0


def test_a_refusal_is_an_object_too_where_json_was_asked_for(ward, capsys):
    assert main(["fleet", ward, "status", "--only", "c", "--json"]) == 1
    said = capsys.readouterr()
    assert said.err == f"vitaledge: {json.loads(said.out)['error']}\n"
    assert "--only c: no such host or group" in said.err


def test_patterns_that_match_nothing_are_told(tmp_path, ward, capsys):
    (tmp_path / "a" / "work").mkdir()
    (tmp_path / "a" / "work" / "x.json").write_text("{}")
    out = str(tmp_path / "out")
    assert main(["fleet", ward, "collect", "--out", out, "--files", "work/*.json", "../*", "no/*", "--json"]) == 1
    said = capsys.readouterr()
    found = {one["host"]: one["answer"]["unmatched"] for one in json.loads(said.out)["hosts"]}
    assert found == {"a": ["../*", "no/*"], "b": ["work/*.json", "../*", "no/*"]}
    assert [line.split(":")[1] for line in said.err.splitlines() if "--files" in line] == [
        " --files ../*",
        " --files no/*",
    ]
    # What one host has was no mistake, but the table shows who has it not.
    assert main(["fleet", ward, "collect", "--out", out, "--files", "work/*.json"]) == 0
    assert capsys.readouterr().out.count("no file matches") == 1
