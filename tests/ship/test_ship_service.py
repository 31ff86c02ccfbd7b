"""The units as text: what systemd's own checker says of them, what a source needs, and what they start."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.contract.errors import SettingsError
from host_tools.ship import device_fallback
from host_tools.ship.device import launcher_text
from host_tools.ship.service_unit import FALLBACK, Needs, ServiceSpec, needs_of, service, units

SOURCE = "serial:///dev/vitaledge-wearable?protocol=csv&rate_hz=250"


def spec(root="/home/pi/v", source=SOURCE, scope="system", **more):
    """A service."""
    return ServiceSpec(source=source, root=str(root), owner="root", python=sys.executable, scope=scope, **more)


def unit_value(text, key):
    """All values of a key."""
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (Debian: systemd)")
@pytest.mark.parametrize("scope", ["user", "system"])
@pytest.mark.parametrize("source", [SOURCE, "tcp://h:7000?protocol=cyton", "ble:name?protocol=hr", "synthetic:"])
def test_systemd_accepts_the_units(tmp_path, scope, source):
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "edge-runtime").write_text("#!/bin/sh\n")
    (root / "bin" / "edge-runtime").chmod(0o755)
    made = units(spec(root, source, scope))
    for name, text in made.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", f"--{scope}", *(str(tmp_path / name) for name in made)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if "vitaledge" in line]
    assert (done.returncode, complaints) == (0, [])


def test_only_serial_ports_are_let_through_and_only_for_a_serial_source():
    of_serial, of_tcp, of_none = (service(spec(source=s)) for s in (SOURCE, "tcp://h:1?protocol=cyton", "synthetic:"))
    assert {v.split()[0] for v in unit_value(of_serial, "DeviceAllow")} == {
        "char-ttyUSB",
        "char-188",
        "char-ttyACM",
        "char-166",
        "char-ttyAMA",
        "char-ttyS",
        "char-ttyTHS",
    }
    for text in (of_tcp, of_none):
        assert unit_value(text, "DeviceAllow") == []
        assert unit_value(text, "PrivateDevices") == ["yes"]
    assert unit_value(of_serial, "PrivateNetwork") == unit_value(of_none, "PrivateNetwork") == ["yes"]
    assert unit_value(of_tcp, "PrivateNetwork") == []
    assert unit_value(of_serial, "RestrictAddressFamilies") == ["AF_UNIX"]


@pytest.mark.parametrize(
    ("source", "needs"),
    [
        (SOURCE, Needs(is_serial=True)),
        ("serial:socket://10.0.0.1:7000?protocol=cyton", Needs(is_network=True)),
        ("tcp://h:1?protocol=cyton", Needs(is_network=True)),
        ("ble:aa?protocol=hr", Needs(is_bluetooth=True)),
        ("wfdb:/data/mitdb/100?channel=MLII", Needs(folder="/data/mitdb")),
        ("synthetic:?heart_rate=72", Needs()),
    ],
)
def test_a_source_says_what_it_needs(source, needs):
    assert needs_of(source) == needs


@pytest.mark.parametrize("source", ["serial", "video:x", "stdin:?protocol=csv", "csv:here.csv", "tcp://h:1\nUser=root"])
def test_a_source_that_a_service_cannot_read_is_refused(source):
    with pytest.raises(SettingsError, match="wanted"):
        needs_of(source)


@pytest.mark.parametrize("watchdog_s", [1, 10, 120])
def test_five_restarts_are_counted_together_also_when_each_takes_a_whole_watchdog(watchdog_s):
    text = service(spec(watchdog_s=watchdog_s))
    burst, interval_s = int(unit_value(text, "StartLimitBurst")[0]), int(unit_value(text, "StartLimitIntervalSec")[0])
    assert burst - 1 == 5
    assert interval_s >= 60
    assert interval_s > burst * watchdog_s
    assert unit_value(text, "OnFailure") == [FALLBACK]


def test_the_users_folder_is_never_run_as_root():
    made = units(spec())
    assert unit_value(made[FALLBACK], "User") == ["root"]
    assert unit_value(units(ServiceSpec(**{**vars(spec()), "owner": "pi"}))[FALLBACK], "User") == ["pi"]
    for text in made.values():
        for value in [*unit_value(text, "ExecStartPost"), *unit_value(text, "ExecStart")]:
            assert not (value.startswith("+") and "/home/pi" in value)


def started(root: Path) -> list[str]:
    """What the unit starts, read as a shell reads it; no sign in it means more to systemd."""
    return shlex.split(unit_value(service(spec(root)), "ExecStart")[0])


def lay_down(root: Path) -> None:
    """The command that a deployment writes."""
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "edge-runtime").write_text(launcher_text(sys.executable))
    (root / "bin" / "edge-runtime").chmod(0o755)


def test_the_unit_starts_the_active_release_with_its_own_runtime(tmp_path):
    root = tmp_path / "root"
    lay_down(root)
    package = root / "runtime" / "r1" / "site" / "edge_runtime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("import os, sys; print(os.getpid(), *sys.argv[1:])")
    release = root / "releases" / "b1"
    release.mkdir(parents=True)
    (release / "release.json").write_text(json.dumps({"schema": 1, "release": "b1", "runtime": "r1"}))
    (root / "current").symlink_to("releases/b1")
    with subprocess.Popen(started(root), stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        said = process.communicate()[0].split()
    # The same process, so that systemd's Type=notify hears its main process.
    assert said == [str(process.pid), "run", str(release), SOURCE, "--json", "--wait"]


def test_the_unit_without_a_release_says_what_to_do(tmp_path):
    lay_down(tmp_path / "root")
    done = subprocess.run(started(tmp_path / "root"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "current: no release there; deploy one first" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def device_with(root: Path, *releases: str, active: str) -> None:
    """Releases in the order in which they were active."""
    for name in releases:
        (root / "releases" / name).mkdir(parents=True)
    (root / "service").mkdir()
    (root / "current").symlink_to(f"releases/{active}")
    (root / "history.json").write_text(json.dumps({"schema": 1, "releases": list(releases)}))


def test_falling_back_goes_one_release_at_a_time_and_is_noted(tmp_path):
    device_with(tmp_path, "a", "b", "c", active="c")
    assert device_fallback.fall_back(str(tmp_path), "2026-01-01T00:00:00Z") == ("c", "b")
    assert os.readlink(tmp_path / "current") == "releases/b"
    assert json.loads((tmp_path / "history.json").read_text())["releases"] == ["a", "b"]
    assert (tmp_path / "service" / "proved").read_text() == "b"
    noted = json.loads((tmp_path / "service" / "fallback.json").read_text())
    assert noted == {"schema": 1, "from": "c", "to": "b", "at": "2026-01-01T00:00:00Z"}
    assert device_fallback.fall_back(str(tmp_path), "") == ("b", "a")
    with pytest.raises(LookupError, match="no release before it"):
        device_fallback.fall_back(str(tmp_path), "")
    assert os.readlink(tmp_path / "current") == "releases/a"


def test_falling_back_from_a_switch_that_was_not_noted_yet_and_over_one_that_is_gone(tmp_path):
    device_with(tmp_path, "a", "b", active="b")
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to("releases/new")
    (tmp_path / "releases" / "b").rmdir()
    assert device_fallback.fall_back(str(tmp_path), "") == ("new", "a")
