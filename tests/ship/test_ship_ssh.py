"""Deploying through a real sshd as another user: what works, and one line for what does not."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from shipping_fakes import FAKE_RUNTIME, Proxy, free_port, make_bundle, make_key

from host_tools.ship.deploy import deploy, rollback, status
from host_tools.ship.device import connect
from host_tools.ship.errors import LinkError, ShipError

BIG = os.urandom(4 << 20)


def refused(gateway, tmp_path, url=None, **options):
    """The message of a deployment that does not come about."""
    bundle = make_bundle(tmp_path / "bundle")
    with pytest.raises(ShipError) as caught:
        deploy(bundle, url or gateway.url(), options=gateway.options(**options))
    message = str(caught.value)
    assert "\n" not in message
    return message


def wait_for(condition):
    """Wait until something becomes true on the other side."""
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("waited 5 s in vain")


def test_deploy_and_rollback_as_another_user(gateway, tmp_path):
    url, options = gateway.url(), gateway.options()
    first = deploy(make_bundle(tmp_path / "one"), url, options=options)
    second = deploy(make_bundle(tmp_path / "two", model=BIG), url, options=options)
    assert json.loads(second.check)["user"] == pwd.getpwnam(gateway.user).pw_uid
    assert second.bytes_sent > len(BIG)
    back = rollback(url, options=options)
    assert (back.release, back.previous) == (first.release, second.release)
    assert status(url, options=options).current == first.release


def test_the_command_on_the_device_follows_the_active_release(gateway, tmp_path):
    url, options = gateway.url(), gateway.options()
    bundle = make_bundle(tmp_path / "one")
    done = deploy(bundle, url, options=options)
    assert deploy(bundle, url, options=options).steps == ()
    root = url.split(str(gateway.port))[1]
    with connect(url, options) as device:
        said = device.transport.run(["sh", "-c", f"cd / && {root}/bin/edge-runtime check {root}/current"])
    assert said.rc == 0, said.last_words
    assert json.loads(said.stdout) == json.loads(done.check)


def test_the_default_root_is_below_the_users_home(gateway):
    with connect(f"ssh://{gateway.user}@127.0.0.1:{gateway.port}", gateway.options()) as device:
        home = pwd.getpwnam(gateway.user).pw_dir
        assert device.root == f"{home}/.local/share/vitaledge"


def test_files_and_arguments_travel_as_they_are(gateway, tmp_path):
    url, options = gateway.url(), gateway.options()
    deploy(make_bundle(tmp_path / "bundle"), url, options=options)
    argv = ["bench", "two words", "$HOME; 'quoted' `id`", ""]
    with connect(url, options) as device:
        assert json.loads(device.edge_runtime(argv, stdin=[b"fed"]).stdout) == {"argv": argv, "stdin": "fed"}
        device.put(BIG, "work/big file")
        assert device.get("work/big file") == BIG


@pytest.mark.parametrize("kind", ["local", "ssh"])
def test_a_source_that_cannot_be_read_to_its_end_is_an_error_and_no_hang(gateway, tmp_path, kind):
    def source():
        yield b"half"
        raise OSError("the stick was pulled out")

    target = f"local:{tmp_path}/device" if kind == "local" else gateway.url()
    with connect(target, gateway.options()) as device:
        with pytest.raises(OSError, match="stick"):
            device.transport.run(["cat"], source())
        assert device.transport.run(["cat"], [b"whole"]).stdout == b"whole"


@pytest.mark.parametrize("kind", ["local", "ssh"])
def test_a_program_that_ends_early_or_late_is_told_by_its_status(gateway, tmp_path, kind):
    target = f"local:{tmp_path}/device" if kind == "local" else gateway.url()
    with connect(target, gateway.options()) as device:
        assert device.transport.run(["sh", "-c", "exit 3"], [BIG]).rc == 3
        assert device.transport.run(["no-such-program"]).rc == 127
        with pytest.raises(ShipError, match=r"did not end within 0\.2 s"):
            device.transport.run(["sleep", "30"], timeout_s=0.2)


def test_a_lock_lasts_as_long_as_its_owner_shows_life(gateway):
    url, options = gateway.url(), gateway.options(keepalive_s=0.1)
    with connect(url, options) as owner, connect(url, options) as other, owner.locked():
        time.sleep(2 * owner.transport.lease_s)
        with pytest.raises(ShipError, match="another deployment"), other.locked():
            pass


def test_an_unknown_host_key_is_refused_and_named(gateway, tmp_path):
    (tmp_path / "none").write_text("")
    message = refused(gateway, tmp_path, known_hosts=tmp_path / "none")
    found = subprocess.run(
        ["ssh-keygen", "-lf", gateway.folder / "host.pub"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert "unknown host key" in message
    assert found in message


def test_a_changed_host_key_is_refused(gateway, tmp_path):
    make_key(tmp_path / "other")
    algorithm, key, *_ = (tmp_path / "other.pub").read_text().split()
    (tmp_path / "known").write_text(f"[127.0.0.1]:{gateway.port} {algorithm} {key}\n")
    assert "host key CHANGED" in refused(gateway, tmp_path, known_hosts=tmp_path / "known")


def test_a_host_key_of_another_kind_counts_as_changed(gateway, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", tmp_path / "other"], check=True)
    algorithm, key, *_ = (tmp_path / "other.pub").read_text().split()
    (tmp_path / "known").write_text(f"[127.0.0.1]:{gateway.port} {algorithm} {key}\n")
    assert "host key CHANGED" in refused(gateway, tmp_path, known_hosts=tmp_path / "known")


def test_a_configuration_without_host_key_checks_turns_nothing_off(gateway, tmp_path, monkeypatch):
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("Host 127.0.0.1\n StrictHostKeyChecking no\n UserKnownHostsFile none\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "unknown host key" in refused(gateway, tmp_path, known_hosts=None)


def test_names_in_the_users_ssh_configuration_work(gateway, tmp_path, monkeypatch):
    (tmp_path / ".ssh").mkdir()
    gateway.known_hosts(tmp_path / ".ssh" / "known_hosts")
    (tmp_path / ".ssh" / "config").write_text(
        f"Host ward7\n HostName 127.0.0.1\n Port {gateway.port}\n User {gateway.user}\n"
        f" IdentityFile {gateway.folder}/client\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    with connect("ssh://ward7", gateway.options(known_hosts=None, key_file=None)) as device:
        assert device.root.startswith(str(gateway.home))


def test_no_sshd_says_so(gateway, tmp_path):
    url = f"ssh://{gateway.user}@127.0.0.1:{free_port()}/nowhere"
    assert "no sshd listens there" in refused(gateway, tmp_path, url)


def test_a_wrong_key_says_who_was_refused(gateway, tmp_path):
    make_key(tmp_path / "stranger")
    message = refused(gateway, tmp_path, key_file=tmp_path / "stranger")
    assert f"refused our key for user '{gateway.user}'" in message


def test_a_key_file_that_is_none_is_named(gateway, tmp_path):
    (tmp_path / "key").write_text("not a key")
    assert "no plain private key" in refused(gateway, tmp_path, key_file=tmp_path / "key")


def test_a_root_that_the_user_may_not_write_is_refused(gateway, tmp_path):
    if os.getuid() != 0:
        pytest.skip("needs root: a folder of another user")
    locked = gateway.folder / "locked"
    locked.mkdir(mode=0o755, exist_ok=True)
    message = refused(gateway, tmp_path, gateway.url(root=locked / "root"))
    assert "not allowed to write" in message


@pytest.mark.parametrize("then", ["cut", "stall", "flip"])
def test_a_link_that_fails_during_an_upload_leaves_the_previous_release(gateway, tmp_path, then):
    url, options = gateway.url(), gateway.options()
    root = Path(url.split(str(gateway.port))[1])
    first = deploy(make_bundle(tmp_path / "one"), url, options=options)
    second = make_bundle(tmp_path / "two", model=BIG)
    with Proxy(gateway.port, then, n_bytes=2 << 20) as proxy:
        known = gateway.known_hosts(tmp_path / "known", proxy.own_port)
        with pytest.raises(LinkError, match=rf"the link was cut.*; {first.release} is active there"):
            deploy(
                second,
                gateway.url(port=proxy.own_port, root=root),
                options=gateway.options(known_hosts=known),
            )
        assert proxy.reached.is_set()
    assert os.readlink(root / "current") == f"releases/{first.release}"
    again = deploy(second, url, options=options)
    assert again.previous == first.release
    assert list((root / "incoming").iterdir()) == []


def test_a_killed_host_leaves_the_previous_release_and_no_lock(gateway, tmp_path):
    url, options = gateway.url(), gateway.options()
    root = Path(url.split(str(gateway.port))[1])
    first = deploy(make_bundle(tmp_path / "one"), url, options=options)
    second = make_bundle(tmp_path / "two", model=BIG)
    with Proxy(gateway.port, "stall", n_bytes=2 << 20) as proxy:
        known = gateway.known_hosts(tmp_path / "known", proxy.own_port)
        code = (
            "import sys; from pathlib import Path; from host_tools.ship.deploy import deploy;"
            "from host_tools.ship.options import ShipOptions; a = sys.argv[1:];"
            "deploy(Path(a[0]), a[1], options=ShipOptions(known_hosts=Path(a[2]), key_file=Path(a[3]),"
            "runtime_package=Path(a[4]), requirements=()))"
        )
        arguments = [
            second,
            gateway.url(port=proxy.own_port, root=root),
            known,
            options.key_file,
            FAKE_RUNTIME,
        ]
        with subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)]) as victim:
            assert proxy.reached.wait(30)
            wait_for(lambda: list((root / "incoming/parts").iterdir()))
            victim.send_signal(signal.SIGKILL)
    assert os.readlink(root / "current") == f"releases/{first.release}"
    assert deploy(second, url, options=options).previous == first.release
