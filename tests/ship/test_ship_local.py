"""Deploying to a folder of this machine: the whole flow without SSH."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from shipping_fakes import FAKE_RUNTIME, fake_options, make_bundle

from edge_runtime.contract.errors import BundleError, SettingsError
from host_tools.ship.deploy import deploy, rollback, status, steps_for
from host_tools.ship.device import connect
from host_tools.ship.errors import ShipError
from host_tools.ship.local import LocalTransport


def test_a_deployed_release_is_current_and_was_checked_there(tmp_path):
    root = tmp_path / "device"
    result = deploy(make_bundle(tmp_path / "bundle"), f"local:{root}", options=fake_options())
    assert os.readlink(root / "current") == f"releases/{result.release}"
    assert json.loads(result.check)["ok"]
    assert result.previous is None
    assert (root / "current" / "model.onnx").read_bytes() == b"a model"
    assert list((root / "incoming").iterdir()) == []
    note = json.loads((root / "current" / "release.json").read_text())
    assert json.loads(result.check)["site"] == str(root / "runtime" / note["runtime"] / "site")


def test_deploying_again_does_nothing(tmp_path):
    bundle, target = make_bundle(tmp_path / "bundle"), f"local:{tmp_path}/device"
    deploy(bundle, target, options=fake_options())
    assert steps_for(bundle, target, options=fake_options()) == []
    assert deploy(bundle, target, options=fake_options()).bytes_sent == 0


def test_another_model_leaves_the_runtime_where_it_is(tmp_path):
    target = f"local:{tmp_path}/device"
    deploy(make_bundle(tmp_path / "one"), target, options=fake_options())
    second = make_bundle(tmp_path / "two", model=b"another model")
    result = deploy(second, target, options=fake_options())
    assert 0 < result.bytes_sent < (second / "manifest.json").stat().st_size


def test_rollback_goes_back_one_release_at_a_time(tmp_path):
    target = f"local:{tmp_path}/device"
    releases = [
        deploy(make_bundle(tmp_path / str(n), model=bytes([n])), target, options=fake_options()).release
        for n in range(3)
    ]
    assert rollback(target).release == releases[1]
    assert rollback(target).release == releases[0]
    assert status(target).current == releases[0]
    with pytest.raises(ShipError, match="cannot go back"):
        rollback(target)


def test_rollback_goes_to_a_named_release_and_forgets_what_came_after(tmp_path):
    target = f"local:{tmp_path}/device"
    first, *_ = [
        deploy(make_bundle(tmp_path / str(n), model=bytes([n])), target, options=fake_options()).release
        for n in range(3)
    ]
    with pytest.raises(ShipError, match=f"cannot go back to other; there are: {first}"):
        rollback(target, to="other")
    assert rollback(target, to=first).release == first
    assert status(target).activations == (first,)


def test_the_same_bundle_with_another_runtime_is_another_release(tmp_path):
    bundle, target = make_bundle(tmp_path / "bundle"), f"local:{tmp_path}/device"
    package = tmp_path / "edge_runtime"
    package.mkdir()
    for source in FAKE_RUNTIME.glob("*.py"):
        (package / source.name).write_bytes(source.read_bytes())
    old = deploy(bundle, target, options=fake_options())
    (package / "more.py").write_text("x = 1\n")
    new = deploy(bundle, target, options=fake_options(runtime_package=package))
    assert new.release != old.release
    assert json.loads(rollback(target).check)["site"] == json.loads(old.check)["site"]


def test_only_the_last_releases_are_kept(tmp_path):
    target = f"local:{tmp_path}/device"
    made = [
        deploy(make_bundle(tmp_path / str(n), model=bytes([n])), target, options=fake_options(keep=2)).release
        for n in range(5)
    ]
    facts = status(target)
    assert facts.activations == tuple(made[-3:])
    assert sorted(facts.releases) == sorted(made[-3:])
    assert len(facts.runtimes) == 1


@pytest.mark.parametrize("trouble", ["fails", "fails_as_current"])
def test_a_release_that_fails_its_check_leaves_the_previous_one_active(tmp_path, trouble):
    root, target = tmp_path / "device", f"local:{tmp_path}/device"
    first = deploy(make_bundle(tmp_path / "good"), target, options=fake_options())
    bad = make_bundle(tmp_path / "bad", **{trouble: 1.0})
    with pytest.raises(ShipError, match=rf"beat at 812 expected.*; {first.release} is active there"):
        deploy(bad, target, options=fake_options())
    assert os.readlink(root / "current") == f"releases/{first.release}"
    third = deploy(make_bundle(tmp_path / "third", model=b"3"), target, options=fake_options())
    assert status(target).activations == (first.release, third.release)


def test_a_first_release_that_fails_leaves_none_active(tmp_path):
    target = f"local:{tmp_path}/device"
    with pytest.raises(ShipError, match="no release is active there"):
        deploy(make_bundle(tmp_path / "bad", fails_as_current=1.0), target, options=fake_options())
    assert status(target).current is None


def test_a_damaged_bundle_is_refused_before_anything_is_sent(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    (bundle / "model.onnx").write_bytes(b"a mOdel")
    with pytest.raises(BundleError, match=r"model\.onnx: sha256 is"):
        deploy(bundle, f"local:{tmp_path}/device", options=fake_options())
    assert not (tmp_path / "device").exists()


def test_a_byte_flipped_on_the_way_is_found_on_arrival(tmp_path):
    target = f"local:{tmp_path}/device"
    first = deploy(make_bundle(tmp_path / "one"), target, options=fake_options())
    second = make_bundle(tmp_path / "two", model=b"another model")

    def flip(text: str, done: int, total: int) -> None:
        if text.startswith("send release"):
            (second / "model.onnx").write_bytes(b"another mOdel")

    with pytest.raises(ShipError, match="on arrival"):
        deploy(second, target, options=fake_options(), progress=flip)
    assert status(target).current == first.release


@pytest.mark.parametrize("place", ["current/model.onnx", "runtime/*/site/edge_runtime/__main__.py"])
def test_a_byte_flipped_at_rest_is_mended_by_deploying_again(tmp_path, place):
    bundle, target = make_bundle(tmp_path / "bundle"), f"local:{tmp_path}/device"
    deploy(bundle, target, options=fake_options())
    damaged = next((tmp_path / "device").glob(place))
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert deploy(bundle, target, options=fake_options()).bytes_sent > 0
    assert damaged.read_bytes() == whole
    assert steps_for(bundle, target, options=fake_options()) == []


def test_two_deployments_to_one_root_do_not_mix(tmp_path):
    target = f"local:{tmp_path}/device"
    bundle = make_bundle(tmp_path / "bundle")
    with connect(target) as device, device.locked(), pytest.raises(ShipError, match="another deployment"):
        deploy(bundle, target, options=fake_options())
    assert deploy(bundle, target, options=fake_options()).release


def test_a_lock_whose_owner_is_silent_is_let_go(tmp_path):
    target = f"local:{tmp_path}/device"
    with connect(target) as silent, connect(target) as other:
        silent.transport.lease_s = 0.3
        with silent.locked(), other.locked():
            pass


def test_leftovers_of_an_interrupted_deployment_are_removed(tmp_path):
    target = f"local:{tmp_path}/device"
    deploy(make_bundle(tmp_path / "one"), target, options=fake_options())
    left = tmp_path / "device" / "incoming" / "deploy" / "release"
    left.mkdir(parents=True)
    (left / "model.onnx.part").write_bytes(b"half a mo")
    deploy(make_bundle(tmp_path / "two", model=b"2"), target, options=fake_options())
    assert list((tmp_path / "device" / "incoming").iterdir()) == []
    assert not list((tmp_path / "device" / "releases").rglob("*.part"))


def test_the_shipped_runtime_is_called_with_its_arguments_as_they_are(tmp_path):
    target = f"local:{tmp_path}/device"
    deploy(make_bundle(tmp_path / "bundle"), target, options=fake_options())
    argv = ["bench", "two words", "$HOME; 'quoted'", "--n=3"]
    with connect(target) as device:
        done = device.edge_runtime(argv, stdin=[b"fed"])
    assert json.loads(done.stdout) == {"argv": argv, "stdin": "fed"}


def test_files_go_there_and_come_back(tmp_path):
    data = bytes(range(256)) * 1000
    (tmp_path / "record").write_bytes(data)
    with connect(f"local:{tmp_path}/device") as device:
        assert 0 < device.put(tmp_path / "record", "work/record") < len(data)
        assert device.put(tmp_path / "record", "work/record") == 0
        assert device.get("work/record", tmp_path / "back") == data
        with pytest.raises(ShipError, match="No such file"):
            device.get("work/other")
    assert (tmp_path / "back").read_bytes() == data


def test_a_program_that_speaks_before_it_is_asked_is_asked_all_the_same(tmp_path):
    # So does a helper whose start is quicker than this end: it would wait for its verbs, and this end for an answer.
    script = f"echo hello; touch {tmp_path}/said; read word; echo got $word"
    talk = LocalTransport().talk(["timeout", "10", "sh", "-c", script], b"")
    while not (tmp_path / "said").exists():
        time.sleep(0.01)
    assert talk.exchange([b"this\n"]) == b"hello\n"
    assert talk.exchange([]) == b"got this\n"
    assert talk.close().rc == 0


def test_a_call_without_a_release_says_to_deploy_one(tmp_path):
    with connect(f"local:{tmp_path}/device") as device:
        done = device.edge_runtime(["info"])
    assert done.rc == 1
    assert "deploy one first" in done.last_words


def test_no_temporary_file_is_left_beside_what_was_fetched(tmp_path):
    with connect(f"local:{tmp_path}/device") as device:
        device.put(b"x", "work/x")
        device.get("work/x", tmp_path / "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["device", "x"]
    assert sorted(path.name for path in (Path(device.root) / "work").iterdir()) == ["x"]


def said_by(root: Path, *argv: str, cwd: Path | None = None) -> dict[str, object]:
    """What the command below the root says."""
    done = subprocess.run([root / "bin/edge-runtime", *argv], capture_output=True, text=True, check=True, cwd=cwd)
    return dict(json.loads(done.stdout))


def test_the_command_there_runs_the_active_release_also_after_a_rollback(tmp_path):
    root, bundle, target = tmp_path / "a device", make_bundle(tmp_path / "bundle"), f"local:{tmp_path}/a device"
    package = tmp_path / "edge_runtime"
    package.mkdir()
    for source in FAKE_RUNTIME.glob("*.py"):
        (package / source.name).write_bytes(source.read_bytes())
    old = deploy(bundle, target, options=fake_options())
    (package / "more.py").write_text("x = 1\n")
    new = deploy(bundle, target, options=fake_options(runtime_package=package))
    assert old.release != new.release
    link = tmp_path / "edge-runtime"
    link.symlink_to(root / "bin/edge-runtime")
    # Called from a folder that holds files named like modules, by which it must not be led astray.
    for name in ("json.py", "runpy.py", "edge_runtime.py"):
        (tmp_path / "bundle" / name).write_text("raise SystemExit('astray')")
    for wanted in (new, old):
        assert said_by(root, "check", f"{root}/current", cwd=bundle)["site"] == json.loads(wanted.check)["site"]
        done = subprocess.run([link, "check", root / "current"], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["site"] == json.loads(wanted.check)["site"]
        if wanted is new:
            rollback(target)


def test_the_command_there_hands_its_arguments_on_and_names_one_release_throughout(tmp_path):
    root, target = tmp_path / "device", f"local:{tmp_path}/device"
    done = deploy(make_bundle(tmp_path / "bundle"), target, options=fake_options())
    argv = ["run", f"{root}/current", "serial:///dev/x?a=1&b=*", "two words", "$HOME `id` 'q'", "", "!", "-n"]
    wanted = ["run", f"{root}/releases/{done.release}", *argv[2:]]
    assert said_by(root, *argv)["argv"] == wanted


def test_a_command_that_is_missing_damaged_or_not_executable_is_written_again(tmp_path):
    bundle, target, command = (
        make_bundle(tmp_path / "b"),
        f"local:{tmp_path}/device",
        tmp_path / "device/bin/edge-runtime",
    )
    deploy(bundle, target, options=fake_options())
    whole = command.read_bytes()
    for damage in (command.unlink, lambda: command.write_bytes(whole[:-9]), lambda: command.chmod(0o644)):
        damage()
        assert deploy(bundle, target, options=fake_options()).steps == ("write the command bin/edge-runtime",)
        assert command.read_bytes() == whole
        assert os.access(command, os.X_OK)
        assert steps_for(bundle, target, options=fake_options()) == []


def test_an_apply_cut_while_the_command_is_written_leaves_the_old_one_whole(tmp_path):
    root, bundle, target = tmp_path / "device", make_bundle(tmp_path / "b"), f"local:{tmp_path}/device"
    deploy(bundle, target, options=fake_options())
    whole = (root / "bin/edge-runtime").read_bytes()
    (root / "incoming/edge-runtime").write_bytes(whole[:20])
    assert json.loads(json.dumps(said_by(root, "check", f"{root}/current")))["ok"]
    assert deploy(bundle, target, options=fake_options()).steps == ("remove 1 leftovers of an interrupted deployment",)
    assert (root / "bin/edge-runtime").read_bytes() == whole


@pytest.mark.parametrize(
    ("option", "words"), [("key_file", "--key"), ("known_hosts", "--known-hosts"), ("wheels", "--wheels")]
)
def test_a_path_that_is_not_there_is_refused_for_every_target(tmp_path, option, words):
    with pytest.raises(SettingsError, match=f"{words} {tmp_path}/gone: no such file or folder"):
        fake_options(**{option: tmp_path / "gone"})
    wrong = tmp_path / "file" if option == "wheels" else tmp_path
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=f"{words} {wrong}: is (a|no) folder"):
        fake_options(**{option: wrong})


def test_only_the_records_and_report_of_the_newest_bench_stay(tmp_path):
    with connect(f"local:{tmp_path}/device") as device:
        for key in ("aaa", "bbb"):
            device.put(b"x", f"work/records-{key}/1.npy")
            device.put(b"x", f"work/report-{key}.json")
        device.put(b"x", "work/mine")
        device.verb("forget", root=device.root, key="bbb")
    assert sorted(p.name for p in (tmp_path / "device" / "work").iterdir()) == [
        "mine",
        "records-bbb",
        "report-bbb.json",
    ]
