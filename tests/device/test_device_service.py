"""The service on a real systemd: its sandbox, its watchdog, what falls back, and the health gate's way back."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from emulated import KINDS
from service_container import (
    BUNDLE,
    LIMITS,
    ROOT,
    SOURCE,
    Container,
    going_wrong,
    harmless,
    running_container,
    wait_until,
)

from host_tools.fleet.inventory import Host
from host_tools.fleet.run import run_on
from host_tools.fleet.verbs import logs
from host_tools.ship import service
from host_tools.ship.deploy import deploy, rollback, status
from host_tools.ship.device import connect
from host_tools.ship.errors import ShipError
from host_tools.ship.options import Limits
from host_tools.ship.signing import trust

pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif("container" not in KINDS, reason="VITALEDGE_DEVICE_KINDS names no container"),
]
MOST_BACK_S = 10.0
# What was measured here, for whoever wants the spread: VITALEDGE_ROUNDS=20 pytest -m device -k makes_way
RECORD = Path(os.environ.get("VITALEDGE_RECORD", os.devnull))


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    """One for all tests here."""
    with running_container("service", 81) as found:
        yield found


@pytest.fixture(scope="module")
def first(container, tmp_path_factory) -> str:
    """A good release, deployed by `pi` and run by the system."""
    package = harmless(tmp_path_factory.mktemp("first"), "the first")
    done = deploy(BUNDLE, container.target, options=container.options(runtime_package=package))
    service.install(container.as_root, SOURCE, scope="system", watchdog_s=4, options=container.options())
    return done.release


@pytest.fixture
def good(container, first) -> str:
    """The good release is active and serves."""
    if container.run(f"readlink {ROOT}/current") != f"releases/{first}":
        rollback(container.target, to=first, options=container.options(limits=LIMITS))
    wait_until(lambda: is_serving(container), 30, "the good release serves")
    return first


def is_serving(container) -> bool:
    """Whether the service has given a reading."""
    state = container.show("ActiveState", "StatusText")
    return state["ActiveState"] == "active" and state["StatusText"].startswith("serving")


def active(container) -> str:
    """The active release's name."""
    return container.run(f"readlink {ROOT}/current").removeprefix("releases/")


def test_systemd_finds_little_to_complain_of_also_with_a_serial_port(container, good):
    for source in ("serial:///dev/ttyUSB0?protocol=cyton", "tcp://192.0.2.1:7000?protocol=cyton", SOURCE):
        service.install(container.as_root, source, watchdog_s=4, options=container.options())
        said = container.run("systemd-analyze security --no-pager vitaledge.service")
        exposure = float(re.search(r"exposure level for vitaledge.service: ([\d.]+)", said)[1])
        assert exposure <= 2.0, f"{source}: {said}"


def test_udev_reads_the_names_of_wearables_without_complaint(container, good):
    rules = "/etc/udev/rules.d/60-vitaledge-wearable.rules"
    read = "udevadm test /sys/class/tty/tty 2>&1"
    said = [line for line in container.run(read).splitlines() if rules in line]
    assert said == [f"Reading rules file: {rules}"]
    # It would complain.
    container.run(f"cp {rules} /root/kept && echo 'SUBSYSTEM=\"' >> {rules}")
    said = [line for line in container.run(read, check=False).splitlines() if rules in line]
    container.run(f"mv /root/kept {rules}")
    assert len(said) > 1


def test_it_runs_as_nobody_special_and_can_write_nowhere(container, good):
    pid = container.show("MainPID")["MainPID"]
    facts = dict(line.split(":\t", 1) for line in container.run(f"cat /proc/{pid}/status").splitlines())
    uid = facts["Uid"].split()[0]
    assert uid not in ("0", container.run("id -u pi"))
    assert facts["NoNewPrivs"] == "1"
    assert facts["Seccomp"] == "2"
    assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0
    inside = f"nsenter --target {pid} --mount setpriv --reuid={uid} --clear-groups"
    places = ("/", "/etc", "/usr", "/var", "/var/lib", "/home", "/home/pi", "/root", ROOT, f"{ROOT}/releases/{good}")
    for place in places:
        container.run(f"{inside} touch {place}/mark", check=False)
        # What it sees as /home is empty and its own: what it writes there is nowhere else.
        assert container.run(f"ls {place}/mark", check=False) == "", place
    assert container.run(f"{inside} ls /home/pi/.ssh", check=False) == ""
    # What it needs it can read, so that the test above was of the right place.
    assert "manifest.json" in container.run(f"{inside} ls {ROOT}/releases/{good}")


def test_deploying_and_rolling_back_without_root_restart_the_service(container, good, tmp_path):
    package = harmless(tmp_path, "the second")
    before = container.show("MainPID")["MainPID"]
    done = deploy(BUNDLE, container.target, options=container.options(runtime_package=package, limits=LIMITS))
    assert done.first_reading.startswith("serving: first reading after")
    assert done.memory_bytes > 1 << 20
    after = container.show("MainPID")["MainPID"]
    assert after != before
    assert done.release in container.run(f"tr '\\0' ' ' < /proc/{after}/cmdline")
    back = rollback(container.target, options=container.options(limits=LIMITS))
    assert back.release == good
    assert good in container.run(f"tr '\\0' ' ' < /proc/{container.show('MainPID')['MainPID']}/cmdline")


@pytest.fixture
def slow(container, good) -> Iterator[None]:
    """systemd takes a second to carry out a request, and the service two to end, as on a busy gateway."""
    names = {"vitaledge-restart": "ExecStartPre=sleep 1", "vitaledge": "ExecStopPost=sleep 2"}
    for name, line in names.items():
        folder = f"/run/systemd/system/{name}.service.d"
        container.run(f"mkdir -p {folder} && printf '[Service]\n{line}\n' > {folder}/slow.conf")
    container.run("systemctl daemon-reload")
    yield
    container.run("rm -r /run/systemd/system/vitaledge*.service.d && systemctl daemon-reload")


def test_a_slow_restart_is_not_asked_for_twice(container, good, slow, tmp_path):
    package, begun = harmless(tmp_path, "the slow one"), container.run("date +%s.%N")
    done = deploy(BUNDLE, container.target, options=container.options(runtime_package=package, limits=LIMITS))
    assert active(container) == done.release
    said = container.run(f"journalctl -q -o cat -u vitaledge-restart.service --since @{begun}")
    assert said.count("Finished vitaledge-restart.service") == 1


def test_to_install_it_again_asks_for_no_second_restart(container, good):
    ran = "systemctl show vitaledge-restart.service -P ExecMainExitTimestampMonotonic"
    before = container.run(ran)
    service.install(container.as_root, SOURCE, watchdog_s=4, options=container.options())
    time.sleep(1.0)
    assert container.run(ran) == before


@pytest.mark.parametrize("word", ["restart", "kill"])
def test_a_request_is_carried_out_once(container, good, word):
    looked = "systemctl show vitaledge-restart.service -P ExecMainExitTimestampMonotonic"
    pids = [container.show("MainPID")["MainPID"]]
    for _ in range(2):
        before = container.run(looked)
        container.run(f"echo {word} {word}-1 > {ROOT}/service/request", user="pi")
        wait_until(lambda before=before: container.run(looked) not in ("0", before), 20, "the request is looked at")
        wait_until(lambda: is_serving(container), 20, "the service serves")
        pids.append(container.show("MainPID")["MainPID"])
    assert pids[0] != pids[1] == pids[2]


@pytest.mark.parametrize(
    ("how", "after_s", "message"),
    [("hang", 0.0, "no reading within 2 s"), ("end", 0.0, "ended soon after|does not start")],
)
@pytest.mark.parametrize("round_", range(int(os.environ.get("VITALEDGE_ROUNDS", "1"))))
def test_a_release_that_gives_no_reading_makes_way_for_the_old_one(
    container, good, tmp_path, how, after_s, message, round_
):
    package = going_wrong(tmp_path, after_s, how)
    limits = Limits(start_s=60.0, reading_s=2.0)
    with pytest.raises(ShipError, match=message) as caught:
        deploy(BUNDLE, container.target, options=container.options(runtime_package=package, limits=limits))
    assert active(container) == good
    back_s = float(re.search(r"is active there, after ([\d.]+) s", str(caught.value))[1])
    assert back_s <= MOST_BACK_S
    assert container.show("ActiveState")["ActiveState"] == "active"
    reading_s = wait_until(lambda: is_serving(container), 10, "the old release gives readings again")
    with RECORD.open("a") as stream:
        load = os.getloadavg()[0]
        stream.write(json.dumps({"how": how, "back_s": back_s, "reading_s": reading_s, "load": load}) + "\n")


def test_budgets_of_time_and_memory_are_held(container, good, tmp_path):
    package = harmless(tmp_path, "the third")
    pid = container.show("MainPID")["MainPID"]
    for limits, message in (
        (Limits(max_block_ms=1e-6), r"a hop takes .* ms here \(p99\); 1e-06 ms is the budget"),
        (Limits(max_memory_mib=1.0), r"took .* MiB of memory; 1 MiB is the budget"),
    ):
        with pytest.raises(ShipError, match=message):
            deploy(BUNDLE, container.target, options=container.options(runtime_package=package, limits=limits))
        assert active(container) == good
    # That was found before the switch: the service never noticed.
    assert container.show("MainPID")["MainPID"] == pid, container.run(
        "journalctl --no-pager -n 60 | grep -v '\"name\"'"
    )


def test_a_hung_loop_is_ended_by_the_watchdog_and_started_again(container, good):
    pid = container.show("MainPID")["MainPID"]
    container.run(f"kill -STOP {pid}")
    took_s = wait_until(lambda: container.show("MainPID")["MainPID"] not in (pid, "0"), 30, "another process")
    wait_until(lambda: is_serving(container), 30, "readings again")
    assert "watchdog" in container.run("journalctl -u vitaledge --no-pager | grep -i watchdog | tail -n 1").lower()
    assert took_s < 4 + 5 + 5


def test_five_restarts_are_enough_then_the_release_before_serves(container, good, tmp_path):
    # It gives readings for a while, so that the gate is content, and hangs later.
    package = going_wrong(tmp_path, 5.0, "hang")
    done = deploy(BUNDLE, container.target, options=container.options(runtime_package=package, limits=LIMITS))
    assert active(container) == done.release
    most = 0

    def has_fallen_back() -> bool:
        nonlocal most
        most = max(most, int(container.show("NRestarts")["NRestarts"]))
        return active(container) == good and is_serving(container)

    wait_until(has_fallen_back, 240, "the release before serves")
    # The sixth is counted for a moment before the limit refuses it.
    assert most in (5, 6)
    state = service.state(container.target, options=container.options())
    assert (state.fallback["from"], state.fallback["to"], state.release) == (done.release, good, good)
    assert status(container.target, options=container.options()).history[-1] == good


def test_a_switch_that_is_killed_leaves_a_whole_release_serving_and_is_taken_up_again(container, good, tmp_path):
    package = harmless(tmp_path, "the fourth")
    options = container.options(runtime_package=package, limits=LIMITS)
    program = (
        "import sys; from pathlib import Path; from host_tools.ship.deploy import deploy; "
        "from host_tools.ship.options import ShipOptions\n"
        f"o = ShipOptions(known_hosts=Path({str(options.known_hosts)!r}), key_file=Path({str(options.key_file)!r}), "
        f"runtime_package=Path({str(package)!r}))\n"
        "tell = lambda text, done, total: print(text, flush=True)\n"
        f"deploy(Path({str(BUNDLE)!r}), {container.target!r}, options=o, progress=tell)\n"
    )
    for wait_s in (0.0, 0.3, 1.0):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as host:
            for line in host.stdout:
                if line.startswith("switch"):
                    break
            time.sleep(wait_s)
            # Both ends die at once: the host, and what works for it on the device.
            host.send_signal(signal.SIGKILL)
            container.run("pkill -KILL -u pi python3", check=False)
        name = active(container)
        assert container.run(f"test -f {ROOT}/releases/{name}/manifest.json && echo whole") == "whole"
        wait_until(lambda: is_serving(container), 30, "a release serves")
        if wait_s == 1.0:
            break
        rollback_to(container, good)
    done = deploy(BUNDLE, container.target, options=options)
    assert active(container) == done.release
    assert done.release in container.run(f"tr '\\0' ' ' < /proc/{container.show('MainPID')['MainPID']}/cmdline")


def rollback_to(container, release) -> None:
    """Point back by hand, as if nothing had been deployed."""
    container.run(f"ln -sfn releases/{release} {ROOT}/current && systemctl restart vitaledge", check=True)
    container.run(f"printf %s {release} > {ROOT}/service/proved")


def test_after_a_power_cut_it_serves_again_by_itself(container, good):
    container.cut()
    wait_until(lambda: is_serving(container), 60, "readings after the boot")
    assert active(container) == good


def test_a_wearable_that_is_off_is_waited_for(container, good):
    service.install(container.as_root, "serial:///dev/ttyUSB7?protocol=cyton", options=container.options())
    state = service.state(container.target, options=container.options())
    assert state.state["ActiveState"] == "active"
    assert "waiting" in state.state["StatusText"]
    service.install(container.as_root, SOURCE, watchdog_s=4, options=container.options())


def test_a_source_that_is_wrong_is_told_and_costs_no_release(container, good):
    with pytest.raises(ShipError, match="tcp://HOST:PORT"):
        service.install(container.as_root, "tcp:nowhere?protocol=cyton", options=container.options())
    assert active(container) == good
    assert container.show("ActiveState")["ActiveState"] in ("inactive", "failed")
    service.install(container.as_root, SOURCE, watchdog_s=4, options=container.options())
    assert active(container) == good


def test_a_source_keeps_its_special_characters(container, good):
    source = "synthetic:?heart_rate=72&seconds=max&seed=7"
    service.install(container.as_root, source, watchdog_s=4, options=container.options())
    words = container.run(f"tr '\\0' '\\n' < /proc/{container.show('MainPID')['MainPID']}/cmdline").splitlines()
    assert source in words
    # What systemd would replace in a unit: a specifier, a variable, quotes.
    hostile = "serial:///dev/tty%n$HOME\"x'y\\z?protocol=cyton"
    service.install(container.as_root, hostile, watchdog_s=4, options=container.options())
    words = container.run(f"tr '\\0' '\\n' < /proc/{container.show('MainPID')['MainPID']}/cmdline").splitlines()
    assert hostile in words
    service.install(container.as_root, SOURCE, watchdog_s=4, options=container.options())


def test_the_service_s_log_is_read_from_every_host_of_a_fleet(container, good):
    names = {"root": container.as_root, "pi": container.target}
    hosts = [Host(name=name, target=target, groups=(), variables={}) for name, target in names.items()]

    def lines():
        found = run_on(hosts, logs(5), container.options())
        assert [one.message for one in found] == ["", ""]
        return {one.host: one.answer["lines"] for one in found}

    of_root, of_pi = lines().values()
    assert len(of_root) == 5
    assert any("edge-runtime[" in line and '"name": "beat"' in line for line in of_root)
    # systemd-journald(8): the system's journal is for root and the group systemd-journal; pi has no unit yet.
    assert of_pi == []
    container.run("usermod -aG systemd-journal pi")
    assert len(lines()["pi"]) == 5


def test_without_root_there_is_a_user_unit_that_lingers(container, good, tmp_path):
    target = f"{container.target}/~/own"
    deploy(BUNDLE, target, options=container.options())
    container.run("loginctl enable-linger pi")
    state = service.install(target, SOURCE, options=container.options())
    assert state.scope == "user"
    assert state.warning == ""
    as_pi = "XDG_RUNTIME_DIR=/run/user/$(id -u) systemctl --user"
    ask = f"{as_pi} show vitaledge --property StatusText --value"
    wait_until(lambda: container.run(ask, user="pi").startswith("serving"), 30, "readings")
    package = harmless(tmp_path, "the user's second")
    done = deploy(BUNDLE, target, options=container.options(runtime_package=package, limits=LIMITS))
    assert done.first_reading
    assert service.remove(target, options=container.options()) == ("vitaledge.service", "vitaledge-fallback.service")
    assert container.run("ls /home/pi/.config/systemd/user", check=False) in ("", "default.target.wants")


def test_what_root_says_of_signers_the_user_who_deploys_cannot_change(container, good, tmp_path):
    for name in ("key", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    found = trust(container.as_root, [tmp_path / "key.pub"], everywhere=True, options=container.options())
    assert (found.file, len(found.signers)) == ("/etc/vitaledge/allowed_signers", 1)
    try:
        with pytest.raises(ShipError, match="whole device"):
            trust(container.target, [], options=container.options())
        package = harmless(tmp_path, "the fifth")
        options = container.options(runtime_package=package, limits=LIMITS)
        before = container.run(f"find {ROOT} -type f -newer /etc/vitaledge/allowed_signers ! -name lock")
        for key, message in ((None, "is not signed"), (tmp_path / "other", "which this device does not trust")):
            with pytest.raises(ShipError, match=message):
                deploy(BUNDLE, container.target, options=replace(options, sign_key=key))
        after = container.run(f"find {ROOT} -type f -newer /etc/vitaledge/allowed_signers ! -name lock")
        assert (active(container), after) == (good, before)
        done = deploy(BUNDLE, container.target, options=replace(options, sign_key=tmp_path / "key"))
        assert done.signers == "/etc/vitaledge/allowed_signers"
        assert active(container) == done.release
        with pytest.raises(ShipError, match="is not signed"):
            rollback(container.target, options=container.options(limits=LIMITS))
    finally:
        trust(container.as_root, [], everywhere=True, options=container.options())


def test_removing_leaves_releases_and_nothing_else(container, good):
    removed = service.remove(container.as_root, options=container.options())
    assert "vitaledge.service" in removed
    assert container.run("ls /etc/systemd/system | grep vitaledge", check=False) == ""
    assert active(container) == good
    assert service.state(container.target, options=container.options()).scope == ""
    with connect(container.target, container.options()) as device:
        assert device.edge_runtime(["check", f"{ROOT}/current"]).rc == 0
