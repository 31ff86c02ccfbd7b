"""Emulated gateways without an emulator: names, records, missing packages, images, and talking to QEMU."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from host_tools.cli import main
from host_tools.emulator import gateways, needs, qemu
from host_tools.emulator.gateway import EmulatorError, Gateway, read_record, write_record
from host_tools.emulator.places import cache_folder, forget_old_images, gateway_folder, locked
from host_tools.emulator.qmp import Qmp
from host_tools.emulator.ssh import write_known_hosts


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITALEDGE_DEVICES", str(tmp_path / "devices"))
    return tmp_path / "devices"


def made(name: str, image: str = "/nowhere") -> Path:
    """A gateway's folder, as `create` leaves it."""
    folder = gateway_folder(name)
    folder.mkdir(parents=True)
    write_record(folder, Gateway(name=name, kind="aarch64", image=image, host="127.0.0.1", port=2222, user="pi"))
    return folder


def test_the_place_is_the_users_choice_or_below_the_home(tmp_path):
    assert cache_folder({"VITALEDGE_DEVICES": str(tmp_path)}) == tmp_path
    assert cache_folder({}) == Path.home() / ".cache" / "vitaledge-devices"


@pytest.mark.parametrize("name", ["../x", "", "Gateway", "-a", "a/b", "a" * 41, "a b"])
def test_a_name_that_is_no_host_name_is_refused(name):
    with pytest.raises(EmulatorError, match="wanted"):
        gateway_folder(name)


def test_missing_packages_are_named_with_the_command_that_installs_them():
    said = needs.missing(needs.MAKE_AARCH64, is_there=lambda name: "qemu" not in name, uid=0)
    assert "apt-get install --no-install-recommends qemu-system-arm qemu-user-static qemu-utils" in said
    assert needs.missing(needs.MAKE_AARCH64, is_there=lambda name: True, uid=0, may_mount=lambda: True) == ""


def test_making_needs_root_and_running_does_not():
    assert "root" in needs.missing(needs.MAKE_AARCH64, is_there=lambda name: True, uid=1000)
    assert "root" in needs.missing(needs.CONTAINER, is_there=lambda name: True, uid=1000)
    assert needs.missing(needs.RUN_AARCH64, is_there=lambda name: True, uid=1000) == ""


def test_a_root_that_may_not_mount_is_told():
    said = needs.missing(needs.CONTAINER, is_there=lambda name: True, uid=0, may_mount=lambda: False)
    assert "may mount" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["start", "nobody"], "no emulated gateway 'nobody'; make it: vitaledge emulator create nobody"),
        (["create"], "create wants a name"),
        (["stop", "A"], "letters a-z"),
    ],
)
def test_what_cannot_be_done_is_one_line(capsys, arguments, words):
    assert main(["emulator", *arguments]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.strip().splitlines()[-1].startswith("vitaledge: ")


def test_a_gateway_that_is_there_is_not_made_again(capsys):
    made("one")
    assert main(["emulator", "create", "one"]) == 1
    assert "there already" in capsys.readouterr().err


def test_status_says_how_to_reach_each(capsys):
    folder = made("one")
    made("two")
    assert main(["emulator", "status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [f["name"] for f in found] == ["one", "two"]
    assert found[0] | {"wearable": None} == found[0]
    assert found[0]["target"] == "ssh://pi@127.0.0.1:2222"
    assert (found[0]["state"], found[0]["key"]) == ("stopped", str(folder / "client"))


@pytest.mark.parametrize(
    ("change", "words"), [({"schema": 2}, "schema is not 1"), ({"colour": "red"}, "unknown key 'colour'")]
)
def test_a_record_of_another_version_is_refused(change, words):
    folder = made("one")
    record = asdict(read_record(folder)) | change
    (folder / "gateway.json").write_text(json.dumps(record))
    with pytest.raises(EmulatorError, match=words):
        read_record(folder)


def test_images_that_a_gateway_was_made_from_stay_and_others_go(cache):
    images = [cache / "images" / f"aarch64-{name}" for name in ("used", "old", "new")]
    for image in images:
        image.mkdir(parents=True)
    (cache / "images" / "other-kind").mkdir()
    made("one", image=str(images[0]))
    forget_old_images("aarch64", images[2])
    assert [image.exists() for image in images] == [True, False, True]
    assert (cache / "images" / "other-kind").exists()


def test_two_commands_on_one_gateway_do_not_meet():
    made("one")
    with locked("one"), pytest.raises(EmulatorError, match="another command"):
        gateways.stop("one")


def test_a_process_that_got_the_number_of_a_dead_qemu_is_left_alone():
    folder = made("one")
    with subprocess.Popen(["sleep", "60"]) as other:
        (folder / "pid").write_text(f"{other.pid}\n")
        assert qemu.running_pid(folder) is None
        gateways.stop("one", is_cut=True)
        assert other.poll() is None
        other.kill()


# As QEMU it is called with the path of its number, holds memory that takes time to give back, and locks its disk.
LIKE_QEMU = """
import fcntl, sys
disk, ballast = open(sys.argv[1] + ".disk", "w"), b"x" * (192 << 20)
fcntl.flock(disk, fcntl.LOCK_EX)
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_machine_whose_power_was_cut_has_let_go_of_its_disk():
    pid = made("one") / "pid"
    argv = [sys.executable, "-c", LIKE_QEMU, str(pid)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as machine:
        assert machine.stdout is not None
        machine.stdout.readline()
        pid.write_text(f"{machine.pid}\n")
        gateways.stop("one", is_cut=True)
        with Path(f"{pid}.disk").open("w") as disk:
            fcntl.flock(disk, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert machine.returncode == -signal.SIGKILL


def test_a_port_that_is_taken_is_replaced_by_a_free_one():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert qemu.free_port(port) != port
    assert qemu.free_port(port) == port


def test_known_hosts_are_found_by_ssh_itself(tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "host"], check=True)
    for port, name in ((22, "10.78.1.2"), (2222, "[10.78.1.2]:2222")):
        write_known_hosts(tmp_path / "known", "10.78.1.2", port, tmp_path / "host.pub")
        found = subprocess.run(["ssh-keygen", "-F", name, "-f", tmp_path / "known"], capture_output=True, text=True)
        assert (tmp_path / "host.pub").read_text().split()[1] in found.stdout


ANSWERS = {
    "qmp_capabilities": {"return": {}},
    "stop": {"error": {"desc": "no"}},
    "query-name": {"return": {"name": "x"}},
}


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Path]:
    """Speaks QMP as its specification says: a greeting, answers in order, events in between."""
    path = tmp_path / "qmp"

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rw") as lines:
            lines.write('{"QMP": {"version": {}, "capabilities": []}}\n')
            lines.flush()
            for line in lines:
                lines.write('{"event": "RTC_CHANGE", "timestamp": {}}\n')
                lines.write(json.dumps(ANSWERS[json.loads(line)["execute"]]) + "\n")
                lines.flush()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        work = threading.Thread(target=serve, args=(listener,))
        work.start()
        yield path
        work.join(timeout=5)


def test_answers_are_told_from_events_and_refusals_are_raised(monitor):
    with Qmp(monitor, timeout_s=5.0) as qmp:
        assert qmp.command("query-name") == {"name": "x"}
        with pytest.raises(EmulatorError, match="refuses stop: no"):
            qmp.command("stop")


def test_a_qemu_that_is_gone_is_told(tmp_path):
    with pytest.raises(EmulatorError, match="does not answer"), Qmp(tmp_path / "none"):
        pass


@pytest.mark.skipif(os.system("command -v shellcheck >/dev/null") != 0, reason="needs shellcheck")
def test_scripts_are_clean():
    folder = Path(__file__).parents[2] / "deploy" / "emulator"
    subprocess.run(["shellcheck", *sorted(folder.glob("*.sh"))], check=True)
