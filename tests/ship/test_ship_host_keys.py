"""Hosts that are new, hosts behind others, and what nobody may read: through a real sshd."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from shipping_fakes import make_bundle, make_key

from host_tools.ship.deploy import deploy
from host_tools.ship.device import connect
from host_tools.ship.errors import ShipError
from host_tools.ship.signing import sign


def test_a_new_host_is_taken_and_noted_only_when_told(gateway, tmp_path):
    known = tmp_path / "known"
    known.write_text("elsewhere ssh-ed25519 AAAA")  # no newline at its end
    with pytest.raises(ShipError, match="unknown host key"), connect(gateway.url(), gateway.options(known_hosts=known)):
        pass
    with connect(gateway.url(), gateway.options(known_hosts=known, accept_new=True)):
        pass
    lines = known.read_text().splitlines()
    assert lines[0] == "elsewhere ssh-ed25519 AAAA"
    assert lines[1:] == gateway.known_hosts(tmp_path / "wanted").read_text().splitlines()
    # From now on it is known, also to ssh itself.
    with connect(gateway.url(), gateway.options(known_hosts=known)):
        pass
    argv = ["ssh", "-F", "none", "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]
    argv += ["-i", str(gateway.folder / "client"), "-p", str(gateway.port), f"{gateway.user}@127.0.0.1", "true"]
    assert subprocess.run(argv, check=False, capture_output=True).returncode == 0


def test_a_changed_key_is_refused_also_when_new_ones_are_taken(gateway, tmp_path):
    make_key(tmp_path / "other")
    algorithm, key, *_ = (tmp_path / "other.pub").read_text().split()
    known = tmp_path / "known"
    known.write_text(f"[127.0.0.1]:{gateway.port} {algorithm} {key}\n")
    before = known.read_text()
    with pytest.raises(ShipError, match="host key CHANGED"):
        deploy(make_bundle(tmp_path / "b"), gateway.url(), options=gateway.options(known_hosts=known, accept_new=True))
    assert known.read_text() == before


def test_a_gateway_behind_another_host_is_reached_as_the_users_configuration_says(gateway, tmp_path, monkeypatch):
    (tmp_path / ".ssh").mkdir()
    gateway.known_hosts(tmp_path / ".ssh" / "known_hosts")
    (tmp_path / ".ssh" / "config").write_text(
        f"Host front\n HostName 127.0.0.1\n Port {gateway.port}\n User {gateway.user}\n"
        f" IdentityFile {gateway.folder}/client\n"
        f"Host ward7\n HostName 127.0.0.1\n Port {gateway.port}\n User {gateway.user}\n ProxyJump front\n"
        f" IdentityFile {gateway.folder}/client\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    options = gateway.options(known_hosts=None, key_file=None)
    # The whole of a deployment, through the host in front; its sshd sees the connection come from itself.
    done = deploy(make_bundle(tmp_path / "bundle"), f"ssh://ward7{gateway.home}/behind", options=options)
    assert (gateway.home / "behind" / "current").readlink() == Path("releases") / done.release
    # Without the host in front nothing is reached: it was not left out.
    config = tmp_path / ".ssh" / "config"
    config.write_text(config.read_text().replace(f"Port {gateway.port}", "Port 1", 1))
    with pytest.raises(ShipError), connect("ssh://ward7", options):
        pass


def test_a_private_key_is_in_no_argument_and_no_environment(tmp_path, monkeypatch):
    make_key(tmp_path / "key")
    keygen = shutil.which("ssh-keygen")
    (tmp_path / "bin").mkdir()
    spy = tmp_path / "bin" / "ssh-keygen"
    spy.write_text(f'#!/bin/sh\n{{ echo "$@"; env; }} >> {tmp_path}/seen\nexec {keygen} "$@"\n')
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    assert "BEGIN SSH SIGNATURE" in sign(b"data", tmp_path / "key")
    seen = (tmp_path / "seen").read_text()
    assert "-Y sign" in seen
    secret = [line for line in (tmp_path / "key").read_text().splitlines() if "-----" not in line]
    assert secret
    assert not any(line in seen for line in secret)
