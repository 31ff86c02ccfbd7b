"""Inventories and waves: files and pure functions, with no host at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract.errors import SettingsError
from host_tools.cli import main
from host_tools.fleet.inventory import chosen, load_inventory
from host_tools.fleet.waves import Figures, Limits, cut_in_waves, is_proved, regression, stop_reason, wave_sizes

WARD = """
schema = 1
target = "ssh://{user}@{host}.ward{root}"
[variables]
user = "pi"
root = "/srv/vitaledge"
[groups.icu]
hosts = ["gw1", "gw2"]
variables = { source = "serial:///dev/ttyUSB0" }
[groups.new]
hosts = ["gw2"]
target = "ssh://{host}:2222"
variables = { user = "admin", source = "tcp://probe:7000" }
[hosts.gw2]
variables = { source = "synthetic:" }
[hosts.gw3]
target = "local:/tmp/gw3"
"""


def inventory(tmp_path, text=WARD):
    """The hosts of a text."""
    (tmp_path / "ward.toml").write_text(text)
    return load_inventory(tmp_path / "ward.toml")


def test_what_is_nearer_to_a_host_counts_more(tmp_path):
    hosts = {host.name: host for host in inventory(tmp_path)}
    assert {name: host.target for name, host in hosts.items()} == {
        "gw1": "ssh://pi@gw1.ward/srv/vitaledge",
        "gw2": "ssh://gw2:2222",
        "gw3": "local:/tmp/gw3",
    }
    assert [hosts[n].variables.get("source") for n in ("gw1", "gw2", "gw3")] == [
        "serial:///dev/ttyUSB0",
        "synthetic:",
        None,
    ]
    assert hosts["gw2"].groups == ("icu", "new")
    assert hosts["gw1"].filled("run {source} as {user} on {host}") == "run serial:///dev/ttyUSB0 as pi on gw1"
    with pytest.raises(SettingsError, match=r"host gw3: variable \{source\} is not set"):
        hosts["gw3"].filled("{source}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schema = 2", "schema is 2"),
        ("schema = 1", "no host in it"),
        ("schema = 1\n[hosts.a]", "host a has no target"),
        ("schema = 1\n[hosts.a]\ntarget = 'gateway'", "target starts with 'gateway'"),
        ("schema = 1\n[hosts.a]\ntraget = 'local:/x'", "unknown key 'traget'"),
        ("schema = 1\n[hosts.'../a']\ntarget = 'local:/x'", "host name is '../a'"),
        ("schema = 1\n[hosts.a]\ntarget = 'local:/{place}'", r"variable \{place\} is not set"),
        ("schema = 1\ntarget = 'local:/x'\n[hosts.a]\n[hosts.b]", "b and a have the same target"),
        ("schema = 1\n[hosts.a]\ntarget = 'ssh://a:secret@b'", "holds a password"),
        ("schema = ", "not TOML"),
    ],
)
def test_an_inventory_that_cannot_be_meant_is_refused(tmp_path, text, words):
    with pytest.raises(SettingsError, match=words) as caught:
        inventory(tmp_path, text)
    assert "secret" not in str(caught.value)


def test_hosts_are_chosen_by_name_or_group(tmp_path):
    hosts = inventory(tmp_path)

    def names(*only):
        return [host.name for host in chosen(hosts, only)]

    assert sorted(names()) == ["gw1", "gw2", "gw3"]
    assert names("new") == ["gw2"]
    assert sorted(names("icu", "*3")) == ["gw1", "gw2", "gw3"]
    with pytest.raises(SettingsError, match="no such host or group; groups are icu, new"):
        names("ward9")


@given(st.integers(0, 300), st.lists(st.sampled_from(["1", "3", "10%", "25%", "all"]), max_size=5))
def test_each_host_comes_once_and_in_order(n, waves):
    cut = cut_in_waves(range(n), waves)
    assert [host for wave in cut for host in wave] == list(range(n))
    assert all(cut)


def test_a_canary_a_tenth_and_all():
    assert wave_sizes(100, ("1", "10%", "all")) == [1, 10, 89]
    assert wave_sizes(5, ("1", "10%", "all")) == [1, 1, 3]
    assert wave_sizes(1, ("1", "10%", "all")) == [1]
    assert wave_sizes(10, ("2",)) == [2, 8]


@pytest.mark.parametrize("wave", ["0", "0%", "-1", "1.5", "half", ""])
def test_a_wave_that_cannot_be_read_is_refused(wave):
    with pytest.raises(SettingsError, match="wave"):
        wave_sizes(10, (wave,))


def test_failures_stop_the_waves_and_dead_hosts_do_not():
    assert stop_reason(["done", "away", "away"], Limits()) == ""
    assert stop_reason(["done", "failed"], Limits()) == "1 failed, 0 may"
    assert stop_reason(["failed"], Limits(failures=1)) == ""
    assert stop_reason(["regressed"], Limits(failures=9)) == "1 regressed"
    assert is_proved(["away", "done"])
    assert not is_proved(["away"])


BEFORE = Figures(block_p50_ns=50_000, worst_confidence=0.001, given=53, wanted=53)


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (Figures(block_p50_ns=74_000, worst_confidence=0.009, given=53, wanted=53), ""),
        (Figures(block_p50_ns=76_000), "1.52 times as long"),
        (Figures(given=52, wanted=53), "52 of 53 golden readings"),
        (Figures(worst_confidence=0.02), "golden confidences differ by 0.02"),
        (Figures(), ""),
    ],
)
def test_slower_or_less_right_is_a_regression(after, words):
    said = regression(BEFORE, after, Limits())
    assert (words in said) if words else said == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["deploy", "b", "--slower=-1"], "--slower is -1; more than 0 times wanted, such as 1.5"),
        (["deploy", "b", "--slower=nan"], "--slower is nan; more than 0 times wanted, such as 1.5"),
        (["deploy", "b", "--failures=-1"], "--failures is -1; 0 or more hosts wanted"),
        (["deploy", "b", "--max-hop-ms=-3"], "--max-hop-ms is -3; a positive number wanted"),
        (["status", "--at-once=0"], "--at-once is 0; more than 0 wanted"),
        (["status", "--connect-timeout=nan"], "--connect-timeout is nan; more than 0 wanted"),
        (["exec", "--timeout=-2", "--", "check"], "--timeout is -2; more than 0 wanted"),
    ],
)
def test_a_limit_that_nothing_can_hold_is_refused_by_its_options_name(tmp_path, capsys, words, said):
    (tmp_path / "ward.toml").write_text(f'schema = 1\ntarget = "local:{tmp_path}/{{host}}"\n[hosts.a]\n')
    assert main(["fleet", str(tmp_path / "ward.toml"), *words]) == 1
    assert capsys.readouterr().err == f"vitaledge: {said}\n"
