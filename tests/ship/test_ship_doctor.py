"""The doctor: which systems the runtime fits, as facts tell; and what it says of this machine, without writing."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from shipping_fakes import fake_options, make_bundle

from edge_runtime.contract.errors import SettingsError
from host_tools.ship.deploy import deploy, status, steps_for
from host_tools.ship.device import connect
from host_tools.ship.doctor import ask, diagnose
from host_tools.ship.errors import ShipError
from host_tools.ship.local import LocalTransport
from host_tools.ship.offers import Offered
from host_tools.ship.python_archive import PythonArchive, bring, open_python_archive
from host_tools.ship.transport import Completed

# Facts as these systems' documentation gives them (versions of Python, glibc, L4T; models as the firmware names them),
# and the wheels that pip answered for each of their platforms on 2026-11-21.
RECORDED = json.loads(Path(__file__).with_name("doctor_cases.json").read_text())
REQUIREMENTS = ("numpy", "psutil", "pyserial", "onnxruntime")
NOW_S = 1795270000.0


def offer(platform, requirements):
    """What pip answered."""
    recorded = RECORDED["wheels"][str(platform)]
    return {name: Offered(wheel=recorded[name] or "", why="no wheel") for name in requirements}


def archive_of(name):
    """An archive by its name alone."""
    machine = "x86_64" if "x86_64" in name else "aarch64"
    return PythonArchive(path=Path(name), version=(3, 12, 8), machine=machine, unpacked_bytes=1, sha256="0" * 64)


def found(case, **changes):
    """What the doctor finds in a case."""
    facts = {key: tuple(values) for key, values in {**case["facts"], **changes}.items()}
    archive = archive_of(case["archive"]) if case["archive"] else None
    return diagnose("ssh://gateway", facts, offer, REQUIREMENTS, archive, now_s=NOW_S)


@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda case: case["name"])
def test_each_system_is_told_and_fits_or_is_told_why_not(case):
    said = found(case)
    assert (said.board, said.system) == (case["board"], case["system"])
    assert said.fits == case["fits"], said.to_text()
    failed = " ".join(one.text for one in said.findings if one.level == "fail")
    assert all(reason in failed for reason in case["reasons"]), failed
    assert bool(failed) != said.fits
    if said.fits:
        assert said.python.startswith(case["python"])
        assert [wheel.split("-")[0] for wheel in said.wheels] == list(REQUIREMENTS)
    assert "None" not in said.to_text()


def test_a_jetson_with_a_brought_python_gets_the_last_engine_for_its_old_glibc():
    case = next(one for one in RECORDED["cases"] if one["name"] == "JetPack 4.6, Nano, with a Python brought")
    assert "onnxruntime-1.28.0-cp312-cp312-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl" in found(case).wheels


def test_a_missing_wheel_is_a_reason():
    case = next(one for one in RECORDED["cases"] if one["name"] == "Debian 12")
    facts = {key: tuple(values) for key, values in case["facts"].items()}

    def none(platform, requirements):
        return {name: Offered(why="nothing matches") for name in requirements}

    said = diagnose("x", facts, none, REQUIREMENTS, None, now_s=NOW_S)
    assert not said.fits
    assert "onnxruntime: nothing matches" in said.to_text()


@pytest.mark.parametrize(
    ("changes", "about", "level", "words"),
    [
        ({"throttled": ["0x50005"]}, "throttling", "warning", "under-voltage, throttled now"),
        ({"throttled": ["0x50000"]}, "throttling", "note", "under-voltage, throttled since it was started"),
        ({"thermal": ["cpu-thermal 84500"]}, "heat", "warning", "84 C"),
        ({"time_s": ["1795180000"], "ntp": ["no"]}, "clock", "warning", "-90000 s off"),
        ({"serial": ["/dev/ttyUSB0 closed"], "groups": ["pi"]}, "serial", "note", "not in the group dialout"),
        ({"systemd": []}, "systemd", "warning", "nothing restarts the runtime"),
        ({"linger": ["yes"]}, "systemd", "ok", ", lingering"),
    ],
)
def test_what_hampers_a_device_is_told(changes, about, level, words):
    case = next(one for one in RECORDED["cases"] if one["name"] == "Pi OS 12, 64 bits, Pi 5")
    said = found(
        {**case, "facts": {k: v for k, v in case["facts"].items() if changes.get(k) != []}},
        **{k: v for k, v in changes.items() if v},
    )
    assert [(one.level, words in one.text) for one in said.findings if one.about == about] == [(level, True)]
    assert said.fits


def test_this_machine_is_asked_without_writing_anything(tmp_path):
    before = sorted(tmp_path.rglob("*"))
    facts = ask(LocalTransport(), f"{tmp_path}/device", "here")
    assert sorted(tmp_path.rglob("*")) == before
    assert facts["machine"] == (os.uname().machine,)
    assert facts["bits"] == ("64",)
    assert any(text.endswith(sys.executable) or "cpython" in text for text in facts["python"])
    room = os.statvfs(tmp_path)
    assert int(facts["disk_free_kib"][0]) == pytest.approx(room.f_bavail * room.f_frsize / 1024, rel=0.02)


@pytest.mark.parametrize("below", ["", "/x", "/x/y"])
def test_a_root_where_a_file_lies_fits_nothing_and_every_verb_says_so_in_one_line(tmp_path, below):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "loose").symlink_to(tmp_path / "gone")
    bundle, plain = make_bundle(tmp_path / "bundle"), fake_options()
    for name in ("file", "loose"):
        root = f"{tmp_path}/{name}{below}"
        facts = ask(LocalTransport(), root, "here")
        case = next(one for one in RECORDED["cases"] if one["name"] == "Debian 12")
        said = found(case, **{key: facts[key] for key in ("root", "root_blocked", "root_writable")})
        assert not said.fits
        wanted = f"{tmp_path}/{name} is no folder; a folder wanted at {root}"
        assert [one.text for one in said.findings if one.level == "fail"] == [wanted]
        for verb in (deploy, steps_for):
            with pytest.raises(ShipError, match=f"local:{root}: {wanted}: choose another root folder"):
                verb(bundle, f"local:{root}", options=plain)
        with pytest.raises(ShipError, match=wanted):
            status(f"local:{root}")
    assert (tmp_path / "file").read_text() == "no folder"


def test_a_login_that_runs_nothing_is_told():
    class Nobody(LocalTransport):
        def run(self, argv, stdin=(), *, timeout_s=None):
            return Completed(1, b"This account is currently not available.\n", b"")

    with pytest.raises(ShipError, match="no shell answered"):
        ask(Nobody(), "~/x", "gateway")


class NoPython(LocalTransport):
    """This machine with a PATH on which there is no Python, and none of the system's own."""

    def run(self, argv, stdin=(), *, timeout_s=None):
        """See `Transport.run`."""
        return super().run(argv, stdin, timeout_s=timeout_s)

    def talk(self, argv, sign_of_life):
        """See `Transport.talk`."""
        gone = [f"/nowhere{argv[0]}"] if "python" in argv[0] else argv[:1]
        return super().talk([*gone, *argv[1:]], sign_of_life)


def standalone(folder: Path, *extra: tarfile.TarInfo) -> Path:
    """An archive laid out as those of python-build-standalone; its Python calls this one."""
    machine = os.uname().machine
    path = folder / f"cpython-3.12.8+20250115-{machine}-unknown-linux-gnu-install_only.tar.gz"
    text = f'#!/bin/sh\nexec {sys.executable} "$@"\n'.encode()
    with tarfile.open(path, "w:gz") as archive:
        for name, data in (("python/bin/python3.12", text), ("python/lib/x.py", b"x = 1\n")):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("python/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, "python3.12"
        archive.addfile(link)
        for member in extra:
            archive.addfile(member)
    return path


def test_a_python_is_brought_where_there_is_none_and_found_again(tmp_path, monkeypatch):
    monkeypatch.setattr("host_tools.ship.local.LocalTransport", NoPython)
    target, bundle = f"local:{tmp_path}/device", make_bundle(tmp_path / "bundle")
    archive = standalone(tmp_path)
    with pytest.raises(ShipError, match=r"no python3 found.*--python-archive"):
        deploy(bundle, target, options=fake_options())
    with pytest.raises(ShipError, match="no python3 found"):
        steps_for(bundle, target, options=fake_options(python_archive=archive))
    assert not (tmp_path / "device").exists()
    done = deploy(bundle, target, options=fake_options(python_archive=archive))
    assert json.loads(done.check)["ok"]
    assert status(target).current == done.release
    assert list((tmp_path / "device/incoming").iterdir()) == []
    assert len(list((tmp_path / "device/python/current/lib/__pycache__").glob("x.*.pyc"))) == 1
    command = [tmp_path / "device/bin/edge-runtime", "check", tmp_path / "device/current"]
    assert json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["ok"]


def test_a_brought_python_arrives_whole_or_not_at_all(tmp_path):
    archive = open_python_archive(standalone(tmp_path))
    root = f"{tmp_path}/device"
    for broken, words in (
        (replace(archive, sha256="0" * 64), "on arrival"),
        (replace(archive, machine="armv7l"), "the processor here is"),
        (replace(archive, unpacked_bytes=1 << 60), "KiB free"),
    ):
        with pytest.raises(ShipError, match=words):
            bring(LocalTransport(), root, broken, "here", lambda text, done, total: None)
        assert not os.path.lexists(f"{root}/python/current")


@pytest.mark.parametrize(("name", "link"), [("../x", ""), ("/x", ""), ("python/../../x", ""), ("python/x", "../../y")])
def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path, name, link):
    member = tarfile.TarInfo(name)
    if link:
        member.type, member.linkname = tarfile.SYMTYPE, link
    with pytest.raises(SettingsError, match="leads out of the archive"):
        open_python_archive(standalone(tmp_path, member))


def test_an_archive_that_is_no_standalone_python_is_refused(tmp_path):
    (tmp_path / "python.tar.gz").write_bytes(b"")
    named = tmp_path / "cpython-3.12.8-x86_64-unknown-linux-gnu-install_only.tar.gz"
    named.write_bytes(b"not a tar archive")
    for path, words in ((tmp_path / "python.tar.gz", "its name tells no version"), (named, "not a gzip file")):
        with pytest.raises(SettingsError, match=f"{words}.*python-build-standalone"):
            open_python_archive(path)


def test_a_device_that_has_a_python_is_brought_none(tmp_path):
    target = f"local:{tmp_path}/device"
    deploy(make_bundle(tmp_path / "bundle"), target, options=fake_options(python_archive=standalone(tmp_path)))
    assert not (tmp_path / "device/python").exists()
    with connect(target) as device:
        assert "device/python" not in device.executable
