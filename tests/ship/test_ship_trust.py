"""Who may deploy: signatures checked by the device with its own ssh-keygen; what is refused changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from shipping_fakes import fake_options, make_bundle, make_key

from edge_runtime.contract.errors import SettingsError
from host_tools.cli import main
from host_tools.ship import device_steps, device_trust
from host_tools.ship.deploy import deploy, rollback, status, steps_for
from host_tools.ship.device_loop import RefusedError
from host_tools.ship.errors import ShipError
from host_tools.ship.signing import SIGNATURE, allowed_signers, sign, sign_bundle, trust

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen: openssh-client")


@pytest.fixture
def key(tmp_path):
    make_key(tmp_path / "signer")
    return tmp_path / "signer"


@pytest.fixture
def stranger(tmp_path):
    make_key(tmp_path / "stranger")
    return tmp_path / "stranger"


@pytest.fixture
def device(tmp_path, key):
    """A device that has a signed release and trusts its signer."""
    target = f"local:{tmp_path}/device"
    trust(target, [key.with_suffix(".pub")])
    deploy(make_bundle(tmp_path / "first"), target, options=fake_options(sign_key=key))
    return target


def tree(target):
    """Every file and link below the root with its contents, without the lock."""
    root = Path(target.removeprefix("local:"))
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or (path.is_file() and path.name != "lock")
    }


def refused(bundle, target, **options):
    """The message of a deployment that changed nothing."""
    before = tree(target)
    with pytest.raises(ShipError) as caught:
        deploy(bundle, target, options=fake_options(**options))
    assert tree(target) == before
    return str(caught.value)


def planned(bundle, target):
    """Why no plan can be made; it changes nothing."""
    before = tree(target)
    with pytest.raises(ShipError) as caught:
        steps_for(bundle, target, options=fake_options())
    assert tree(target) == before
    return str(caught.value)


def made(bundle, created):
    """The bundle with another time of making."""
    path = bundle / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "created": created}))
    return bundle


def test_a_device_without_signers_says_so_and_takes_what_comes(tmp_path):
    target = f"local:{tmp_path}/device"
    done = deploy(make_bundle(tmp_path / "bundle"), target, options=fake_options())
    assert done.signers == ""
    assert "whoever may log in may deploy" in trust(target, None).to_text()
    assert "whoever may log in may deploy" in status(target).to_text()


def test_a_signed_bundle_and_runtime_are_taken_and_nothing_is_left_to_do(tmp_path, device, key):
    bundle = make_bundle(tmp_path / "second", model=b"two")
    done = deploy(bundle, device, options=fake_options(sign_key=key))
    assert done.signers.endswith("trust/allowed_signers")
    assert status(device).current == done.release
    assert deploy(bundle, device, options=fake_options()).steps == ()


def test_ssh_keygen_itself_agrees_with_our_signature(tmp_path, key):
    bundle = make_bundle(tmp_path / "bundle")
    path = sign_bundle(bundle, key)
    (tmp_path / "allowed").write_text(allowed_signers(key.with_suffix(".pub")))
    argv = ["ssh-keygen", "-Y", "verify", "-f", tmp_path / "allowed", "-I", "vitaledge", "-n", "vitaledge", "-s", path]
    manifest = (bundle / "manifest.json").read_bytes()
    assert subprocess.run(argv, input=manifest, capture_output=True, check=False).returncode == 0
    assert subprocess.run(argv, input=manifest + b" ", capture_output=True, check=False).returncode != 0


def test_a_bundle_signed_by_one_and_shipped_by_another_is_taken_where_both_are_trusted(tmp_path, device, key, stranger):
    bundle = make_bundle(tmp_path / "second", model=b"two")
    sign_bundle(bundle, stranger)
    assert "the bundle is signed by SHA256:" in refused(bundle, device, sign_key=key)
    trust(device, [key.with_suffix(".pub"), stranger.with_suffix(".pub")])
    deploy(bundle, device, options=fake_options(sign_key=key))


def test_unsigned_is_refused(tmp_path, device):
    bundle = make_bundle(tmp_path / "second", model=b"two")
    message = refused(bundle, device)
    assert "the bundle is not signed" in message
    assert "is active there" in message
    assert planned(bundle, device) == message


def test_a_signed_bundle_with_an_unsigned_runtime_is_refused(tmp_path, device, key):
    bundle = make_bundle(tmp_path / "second", model=b"two")
    sign_bundle(bundle, key)
    message = refused(bundle, device)
    assert "the runtime is not signed" in message
    assert planned(bundle, device) == message
    assert steps_for(bundle, device, options=fake_options(sign_key=key))


def test_a_wrong_signer_is_refused_and_named(tmp_path, device, stranger):
    said = subprocess.run(["ssh-keygen", "-lf", stranger], capture_output=True, text=True, check=True).stdout
    message = refused(make_bundle(tmp_path / "second", model=b"two"), device, sign_key=stranger)
    assert f"signed by {said.split()[1]}, which this device does not trust" in message


def test_a_signature_for_another_purpose_is_refused(tmp_path, device, key):
    bundle = make_bundle(tmp_path / "second", model=b"two")
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", key]
    done = subprocess.run(argv, input=(bundle / "manifest.json").read_bytes(), capture_output=True, check=True)
    (bundle / SIGNATURE).write_bytes(done.stdout)
    assert "not what was signed" in refused(bundle, device, sign_key=key)


def test_a_bundle_that_was_changed_after_it_was_signed_is_refused(tmp_path, device, key):
    bundle = make_bundle(tmp_path / "second", model=b"two")
    sign_bundle(bundle, key)
    # All hashes are made to hold: only the signature can tell.
    (bundle / "model.onnx").write_bytes(b"another")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["model.onnx"] = hashlib.sha256(b"another").hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert "the bundle is not what was signed" in refused(bundle, device, sign_key=key)


def test_a_release_that_was_changed_on_the_device_is_not_rolled_back_to(tmp_path, device, key):
    first = status(device).current
    deploy(make_bundle(tmp_path / "second", model=b"two"), device, options=fake_options(sign_key=key))
    (Path(device.removeprefix("local:")) / "releases" / first / "model.onnx").write_bytes(b"another")
    with pytest.raises(ShipError, match="is not the file that was signed"):
        rollback(device)
    assert status(device).current != first


def test_an_older_bundle_is_refused_unless_it_is_asked_for(tmp_path, device, key):
    first = status(device).current
    older = made(make_bundle(tmp_path / "older", model=b"old"), "2025-12-31T23:30:00-01:00")  # 00:30 UTC: newer
    newest = deploy(older, device, options=fake_options(sign_key=key)).release
    older = made(make_bundle(tmp_path / "oldest", model=b"oldest"), "2025-12-31T23:59:59Z")
    message = refused(older, device, sign_key=key)
    assert "2025-12-31T23:59:59Z" in message
    assert first in message or newest in message
    assert deploy(older, device, options=fake_options(sign_key=key, allow_downgrade=True)).previous == newest


def test_an_older_bundle_is_refused_without_signers_too(tmp_path):
    target = f"local:{tmp_path}/device"
    deploy(make_bundle(tmp_path / "first"), target, options=fake_options())
    older = made(make_bundle(tmp_path / "older"), "2025-06-01T00:00:00Z")
    assert "only with --allow-downgrade" in refused(older, target)


def test_signers_that_come_later_want_the_active_release_signed(tmp_path, key):
    target, bundle = f"local:{tmp_path}/device", make_bundle(tmp_path / "bundle")
    release = deploy(bundle, target, options=fake_options()).release
    found = trust(target, [key.with_suffix(".pub")])
    assert list(found.refused) == [release]
    assert "deploy it again with --sign" in found.to_text()
    assert "the bundle is not signed" in planned(bundle, target)
    assert [str(step).split()[0] for step in steps_for(bundle, target, options=fake_options(sign_key=key))] == ["ask"]
    with pytest.raises(ShipError, match="not signed"):
        deploy(bundle, target, options=fake_options())
    deploy(bundle, target, options=fake_options(sign_key=key))
    assert trust(target, None).refused == {}
    assert deploy(bundle, target, options=fake_options()).steps == ()


def test_a_release_from_before_there_were_signers_is_not_rolled_back_to(tmp_path, key):
    target = f"local:{tmp_path}/device"
    deploy(make_bundle(tmp_path / "first"), target, options=fake_options())
    trust(target, [key.with_suffix(".pub")])
    deploy(make_bundle(tmp_path / "second", model=b"two"), target, options=fake_options(sign_key=key))
    with pytest.raises(ShipError, match="the bundle is not signed"):
        rollback(target)


def test_signatures_of_one_release_do_not_serve_another(tmp_path, device, key):
    # Both are signed by a trusted key, but not together: an attacker's mix of an old runtime and a new bundle.
    first = status(device).current
    second = deploy(make_bundle(tmp_path / "second", model=b"two"), device, options=fake_options(sign_key=key)).release
    kept = Path(device.removeprefix("local:")) / "trust" / "releases"
    stored = json.loads((kept / f"{second}.json").read_text())
    root = device.removeprefix("local:")
    manifest = (tmp_path / "second" / "manifest.json").read_bytes()
    with pytest.raises(RefusedError, match="is not the one that is signed"):
        device_trust.verify_both(first, manifest, stored, f"{root}/trust/allowed_signers")


def test_signers_can_be_taken_away_again(tmp_path, device):
    trust(device, [])
    assert deploy(make_bundle(tmp_path / "second", model=b"two"), device, options=fake_options()).signers == ""


def test_a_mended_release_needs_no_new_signature(tmp_path, device):
    (Path(device.removeprefix("local:")) / "current" / "model.onnx").write_bytes(b"flipped")
    deploy(tmp_path / "first", device, options=fake_options())
    assert (Path(device.removeprefix("local:")) / "current" / "model.onnx").read_bytes() == b"a model"


def test_a_file_of_signers_that_is_none_is_refused_without_being_quoted(tmp_path, key):
    with pytest.raises(SettingsError, match="no public key") as caught:
        allowed_signers(key)
    secret = [line for line in key.read_text().splitlines() if "-" not in line]
    assert secret
    assert not any(line in str(caught.value) for line in secret)
    (tmp_path / "empty").write_text("# nobody\n")
    with pytest.raises(SettingsError, match="no public key in it"):
        allowed_signers(tmp_path / "empty")


def test_a_file_of_allowed_signers_is_taken_with_its_options_replaced(tmp_path, key):
    kind, base64, *_ = key.with_suffix(".pub").read_text().split()
    (tmp_path / "allowed").write_text(f'# us\n\nme@home,you namespaces="git" {kind} {base64} comment\n')
    assert allowed_signers(tmp_path / "allowed") == f'vitaledge namespaces="vitaledge" {kind} {base64}\n'


def test_a_key_with_a_passphrase_is_named_and_nobody_is_asked(tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", tmp_path / "locked"], check=True)
    with pytest.raises(SettingsError, match="without a passphrase wanted"):
        sign(b"data", tmp_path / "locked")


def test_an_agents_key_signs(tmp_path, key, monkeypatch):
    if shutil.which("ssh-agent") is None:
        pytest.skip("needs ssh-agent: openssh-client")
    socket = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as agent:
        try:
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
            for _ in range(500):
                if subprocess.run(["ssh-add", "-q", key], capture_output=True, check=False).returncode == 0:
                    break
            key.unlink()
            assert "BEGIN SSH SIGNATURE" in sign(b"data", key.with_suffix(".pub"))
        finally:
            agent.terminate()


def test_the_commands_say_what_they_did(tmp_path, key, capsys):
    bundle, target = make_bundle(tmp_path / "bundle"), f"local:{tmp_path}/device"
    assert main(["sign", str(bundle), "--key", str(key)]) == 0
    assert str(bundle / SIGNATURE) in capsys.readouterr().out
    assert main(["trust", target, "--signer", f"{key}.pub", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["signers"]) == 1
    assert main(["trust", target]) == 0
    assert "1 allowed signers" in capsys.readouterr().out
    assert main(["trust", target, "--signer", str(key)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [
        ("../outside.py", 0o100644, "leads out"),
        ("edge_runtime/../../outside.py", 0o100644, "leads out"),
        ("/tmp/outside.py", 0o100644, "leads out"),
        ("x.data/purelib/../../../outside.py", 0o100644, "leads out"),
        ("edge_runtime/link.py", 0o120777, "is a link"),
    ],
)
def test_paths_in_an_archive_cannot_leave_it(tmp_path, name, mode, message):
    path = tmp_path / "wheel.whl"
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, "/etc/passwd")
    (tmp_path / "in" / "site").mkdir(parents=True)
    with pytest.raises(RefusedError, match=message):
        device_steps.unzip(str(path), str(tmp_path / "in" / "site"))
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["wheel.whl"]


def test_scripts_and_a_lone_file_named_data_stay_out(tmp_path):
    path = tmp_path / "wheel.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("x.data", "x.data/scripts/run", "x.data/purelib/kept.py"):
            archive.writestr(name, "")
    assert list(device_steps.unzip(str(path), str(tmp_path / "site"))) == ["kept.py"]


def test_a_read_only_disk_is_named(tmp_path, key):
    if os.getuid() != 0:
        pytest.skip("needs root: mounts a small tmpfs")
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"needs to mount a tmpfs: {done.stderr.decode().strip()}")
    try:
        target = f"local:{disk}/device"
        deploy(make_bundle(tmp_path / "one"), target, options=fake_options())
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert "the disk is read-only" in refused(make_bundle(tmp_path / "two", model=b"two"), target)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_wrong_architecture_is_named(tmp_path, device, key):
    setarch = shutil.which("setarch")
    if setarch is None or subprocess.run([setarch, "i686", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("needs setarch, and a processor that can be called i686")
    before = tree(device)
    bundle = make_bundle(tmp_path / "second", model=b"two")
    # What it starts on the device is told the same.
    program = "import sys; from host_tools.cli import main; sys.exit(main(sys.argv[1:]))"
    argv = [setarch, "i686", sys.executable, "-c", program, "deploy", str(bundle), device, "--sign", str(key)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "processor is i686" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert tree(device) == before
