"""From nothing installed to readings, power cuts and unplugged wearables, on emulated gateways."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from emulated import BUNDLE, PATIENT, Emulated, newer, note, readings, replayed, wait_until

from host_tools.cli import main as vitaledge
from host_tools.emulator import gateways
from host_tools.emulator.gateway import EmulatorError, read_record
from host_tools.ship import service
from host_tools.ship.deploy import deploy, status
from host_tools.ship.errors import ShipError

pytestmark = pytest.mark.device
RATE_HZ = 250  # of the simulated wearable
CONFIDENCE = 5e-3  # another processor's rounding in the head's floats; the golden vectors' own tolerance is as large
PLATFORM = {"aarch64": "aarch64", "container": os.uname().machine}


@pytest.fixture(scope="module")
def installed(gateway: Emulated, record_testsuite_property) -> str:
    """The release that was put on a gateway with nothing on it, and what that took."""
    assert gateway.run(f"ls {gateway.root}", check=False) == ""
    sending_s, since, is_sending = 0.0, time.monotonic(), False

    def progress(text: str, done: int, total: int) -> None:
        nonlocal sending_s, since, is_sending
        now = time.monotonic()
        sending_s += now - since if is_sending else 0.0
        since, is_sending = now, text.startswith("sending")

    begun, used = time.monotonic(), gateway.processor_s if gateway.kind == "aarch64" else 0.0
    with gateway.wearable() as source:
        done = deploy(BUNDLE, gateway.target, options=gateway.options(), progress=progress)
        gateway.run(f"{gateway.root}/bin/edge-runtime run {gateway.root}/current '{source}' --json | head -n 1")
        total = time.monotonic() - begun
    figures = {
        "kind": gateway.kind,
        "first_reading_s": round(total, 1),
        "of_it_transfer_s": round(sending_s, 1),
        "beyond_the_transfer_s": round(total - sending_s, 1),
        "bytes_sent": done.bytes_sent,
        "load": os.getloadavg()[0],
        "processors": os.cpu_count(),
    }
    if gateway.kind == "aarch64":
        figures["emulations_processor_s"] = round(gateway.processor_s - used, 1)
    record_testsuite_property(f"from_nothing_{gateway.kind}", json.dumps(figures))
    note(f"from-nothing-{gateway.kind}.jsonl", figures)
    return done.release


def test_the_doctor_says_what_fits_before_anything_is_written(gateway, capsys):
    s = gateway.status
    said = vitaledge(["doctor", s.target, "--known-hosts", s.known_hosts, "--key", s.key, "--json"])
    found = capsys.readouterr().out
    assert said == 0, found
    assert PLATFORM[gateway.kind] in found
    assert "Debian GNU/Linux 12" in found


def test_the_gateway_reaches_no_network(gateway):
    if gateway.kind == "container":
        pytest.skip("a container shares a link with this machine")
    line = "import socket; s = socket.create_connection(('{}', {}), 10)"
    port = gateway.target.rpartition(":")[2]

    def reaches(host: str, port: str) -> bool:
        said = gateway.run(f'python3 -c "{line.format(host, port)}"; echo $?', check=False)
        assert said in ("0", "1")
        return said == "0"

    assert reaches("127.0.0.1", "22")  # its own sshd: the line does connect where it may
    # The host's own address as QEMU shows it, on a port where something surely listens.
    assert not reaches("10.0.2.2", port)


def test_what_was_shipped_answers_its_golden_vectors(gateway, installed):
    there = status(gateway.target, options=gateway.options())
    assert there.current == installed
    said = json.loads(gateway.run(f"{gateway.root}/bin/edge-runtime check {gateway.root}/current --json"))
    assert said["is_passed"]
    assert said["given"] == said["wanted"] > 0


def test_the_gateway_reads_what_the_host_reads_from_the_same_bytes(gateway, installed, tmp_path, capsys):
    run = f"{gateway.root}/bin/edge-runtime run {gateway.root}/current"
    with gateway.wearable() as source:
        # One signal, from one place: a second one would end the runtime before its ledger is written.
        gateway.run(
            f"{run} '{source}' --capture a.vcap --json > a.jsonl & n=0; "
            "until [ $(grep -c beat a.jsonl) -ge 40 ] || [ $n -ge 300 ] || ! kill -0 $!; "
            "do sleep 1; n=$((n + 1)); done; kill -TERM $!; wait $!",
            timeout_s=900.0,
        )
    said = gateway.run("cat a.jsonl")
    # What was on its way when it was stopped is in the capture, and was not waited for there.
    heard_until = json.loads(said.splitlines()[-1])["received"] - 2 * RATE_HZ
    there = [r for r in readings(said) if r["sample"] < heard_until]
    with (tmp_path / "a.vcap").open("wb") as out:
        subprocess.run(gateway.argv("cat a.vcap"), stdout=out, check=True, timeout=300)
    here = [r for r in replayed(tmp_path / "a.vcap", capsys) if r["sample"] < heard_until]
    assert len(there) >= 20
    assert [(r["sample"], r["class"]) for r in there] == [(r["sample"], r["class"]) for r in here]
    for mine, its in zip(here, there, strict=True):
        assert its.get("confidence") == pytest.approx(mine.get("confidence"), abs=CONFIDENCE)


@pytest.fixture(scope="module")
def serving(gateway: Emulated, installed):
    """A system's service that reads the wearable at the USB port."""
    if gateway.kind == "container":
        pytest.skip("a container has no USB port and no plug to pull")
    with gateway.wearable() as source:
        service.install(
            gateway.target,
            source.replace("ttyUSB0", "vitaledge-wearable"),
            scope="system",
            memory_mib=256,
            watchdog_s=120,
            options=gateway.options(),
        )
    return installed


def n_beats(gateway: Emulated) -> int:
    return int(gateway.run("journalctl -u vitaledge -o cat | grep -c '\"beat\"'", user="root", check=False) or 0)


def test_memory_has_a_limit_that_the_kernel_enforces(gateway, serving):
    assert gateway.show("MemoryMax") == str(256 << 20)
    group = gateway.show("ControlGroup")
    assert gateway.run(f"cat /sys/fs/cgroup{group}/memory.max") == str(256 << 20)
    greedy = "systemd-run --wait --unit greedy -p MemoryMax=64M -p MemorySwapMax=0 python3 -c 'bytearray(256 << 20)'"
    gateway.run(greedy, user="root", check=False)
    wait_until(lambda: "oom" in gateway.run("journalctl -u greedy -o cat", user="root"), 60.0, "the kernel ends it")


def test_a_wearable_that_is_unplugged_and_plugged_in_again_is_read_on(gateway, serving):
    with gateway.wearable():
        before = n_beats(gateway)
        wait_until(lambda: n_beats(gateway) > before + 3, 300.0, "beats")
    wait_until(lambda: "waiting" in gateway.show("StatusText"), 120.0, "the service notices")
    pid, unplugged = gateway.show("MainPID"), n_beats(gateway)
    with gateway.wearable():
        wait_until(lambda: n_beats(gateway) > unplugged + 3, 300.0, "beats after it came back")
        assert gateway.show("MainPID") == pid


def test_a_wearable_that_was_off_at_boot_is_read_once_it_is_plugged_in(gateway, serving):
    gateway.cut()
    gateway.boot()
    wait_until(lambda: "waiting" in gateway.show("StatusText"), 600.0, "the service is up")
    # Not even the adapter's driver was there when systemd put up the service's walls.
    assert "ttyUSB" not in gateway.run("cat /proc/devices")
    before = n_beats(gateway)
    with gateway.wearable():
        wait_until(lambda: n_beats(gateway) > before + 3, 300.0, "beats")


@pytest.mark.parametrize(("day", "moment"), [(1, "send release"), (2, "switch"), (3, "")])
def test_a_power_cut_during_an_update_leaves_one_release_whole_and_serving(gateway, serving, tmp_path, day, moment):
    old = status(gateway.target, options=gateway.options()).current

    def progress(text: str, done: int, total: int) -> None:
        if moment and text.startswith(moment):
            gateway.cut()

    new = None
    with gateway.wearable():
        options = gateway.options(limits=PATIENT)
        if moment:
            with pytest.raises(ShipError):
                deploy(newer(tmp_path / "new", day), gateway.target, options=options, progress=progress)
        else:
            new = deploy(newer(tmp_path / "new", day), gateway.target, options=options).release
            gateway.cut()  # at once: whoever said "done" must have written it
        gateway.boot()
        assert whole_and_serving(gateway) == (new or old)


def whole_and_serving(gateway: Emulated) -> str:
    """The active release after a boot, once it has answered its golden vectors and its service has read beats."""
    now = status(gateway.target, options=gateway.options()).current
    said = json.loads(gateway.run(f"{gateway.root}/bin/edge-runtime check {gateway.root}/current --json"))
    assert said["is_passed"]
    wait_until(lambda: "serving" in gateway.show("StatusText"), 600.0, "the service serves")
    before = n_beats(gateway)
    wait_until(lambda: n_beats(gateway) > before, 300.0, "beats after the power cut")
    return now


def test_a_gateway_that_runs_is_not_removed(gateway):
    with pytest.raises(EmulatorError, match="running"):
        gateways.remove(gateway.name)


def test_started_afresh_it_is_as_it_was_made_and_has_keys_of_its_own(gateway):
    if gateway.kind == "container":
        pytest.skip("a container is always fresh")
    gateway.run("touch kept && sync")
    gateway.hang_up()
    gateways.start(gateway.name, is_fresh=True, progress=lambda text, done, total: None)
    assert gateway.run("ls") == ""
    assert abs(float(gateway.run("date +%s")) - time.time()) < 60
    image = Path(read_record(Path(gateway.status.folder)).image)
    for ours, theirs in (("host.pub", "host.pub"), ("client.pub", "client.pub")):
        assert (Path(gateway.status.folder) / ours).read_text().split()[1] not in (image / theirs).read_text()


def test_it_is_powered_off_in_order(gateway):
    gateway.hang_up()
    gateways.stop(gateway.name)
    assert gateway.status.state == "stopped"
    if gateway.kind == "aarch64":
        assert "Power down" in (Path(gateway.status.folder) / "console.log").read_text(errors="replace")
