"""The plan is a pure function: from facts as a device reports them to steps, with no device at all."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.contract.strict import build
from host_tools.ship.errors import ShipError
from host_tools.ship.facts import Facts, ReleaseFacts, RuntimeFacts, read_facts
from host_tools.ship.helper import BOOT, start
from host_tools.ship.plan import (
    BYTECODE_BYTES,
    RESERVE_BYTES,
    Authenticate,
    Check,
    File,
    Launch,
    MakeRoot,
    Prune,
    PushRelease,
    PushRuntime,
    Remember,
    Switch,
    Tidy,
    UnpackRuntime,
    Verify,
    Wish,
    plan,
    require_space,
)
from host_tools.ship.transport import NOT_FOUND, Completed
from host_tools.ship.wheels import platform_of

# `fresh`: as a Raspberry Pi with Debian 12 reports itself before its first deployment. `cases`: what differs from it on
# other devices, and the steps from there to `wish`, or why there are none, as people read them; written by hand.
RECORDED = json.loads(Path(__file__).with_name("plan_cases.json").read_text())
BARE = build(Facts, RECORDED["fresh"], "facts", ShipError)
NUMPY = File(name="numpy.whl", sha256="n" * 64, n_bytes=17_000_000, unpacked_bytes=60_000_000)
RUNTIME = File(name="edge_runtime.zip", sha256="r" * 64, n_bytes=50_000, unpacked_bytes=200_000)
MODEL = File(name="model.onnx", sha256="m" * 64, n_bytes=15_000)
MANIFEST = File(name="manifest.json", sha256="j" * 64, n_bytes=4_000)
WISH = Wish(release="ecg-1", files=(MODEL, MANIFEST), runtime="abc", archives=(NUMPY, RUNTIME), launcher="exec it")


def after(facts: Facts, wish: Wish) -> Facts:
    """What a device reports when all went well."""
    release = ReleaseFacts(runtime=wish.runtime, files={f.name: f.sha256 for f in wish.files})
    runtime = RuntimeFacts(archives={a.sha256: True for a in wish.archives})
    history = [name for name in facts.activations if name != wish.release][-wish.keep :]
    return replace(
        facts,
        has_root=True,
        incoming=(),
        releases={n: facts.releases[n] for n in history} | {wish.release: release},
        runtimes={facts.releases[n].runtime: facts.runtimes[facts.releases[n].runtime] for n in history}
        | {wish.runtime: runtime},
        launcher=hashlib.sha256(wish.launcher.encode()).hexdigest(),
        current=wish.release,
        history=(*history, wish.release),
    )


def planned(case) -> list[str]:
    """The steps of a recorded device, one line each; its platform first."""
    facts = read_facts({**RECORDED["fresh"], **case["facts"]}, "gateway")
    wish = build(Wish, {**RECORDED["wish"], **case.get("wish", {})}, "wish", ShipError)
    wish = replace(wish, known=frozenset(case.get("known", [])))
    platform = str(platform_of(facts, "gateway"))
    steps = plan(facts, wish)
    require_space(facts, steps, "gateway")
    return [platform, *map(str, steps)]


@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda case: case["name"])
def test_each_recorded_device_gets_the_steps_it_needs_or_is_told_why_not(case):
    if "refused" in case:
        with pytest.raises(ShipError, match=re.escape(case["refused"])):
            planned(case)
    else:
        assert planned(case) == [case["platform"], *case["steps"]]


def test_a_bare_device_gets_everything():
    assert plan(BARE, WISH) == [
        Authenticate(release="ecg-1"),
        MakeRoot(),
        PushRuntime(files=(NUMPY, RUNTIME)),
        UnpackRuntime(runtime="abc", sent=(NUMPY, RUNTIME), reused=()),
        PushRelease(release="ecg-1", runtime="abc", files=(MODEL, MANIFEST)),
        Verify(release="ecg-1", files=(MODEL, MANIFEST)),
        Check(release="ecg-1"),
        Launch(text="exec it"),
        Switch(release="ecg-1", previous=None),
        Remember(releases=("ecg-1",)),
    ]


def test_a_command_that_is_missing_or_another_is_written_and_nothing_else():
    facts = after(BARE, WISH)
    assert plan(replace(facts, launcher=""), WISH) == [Launch(text="exec it")]
    assert plan(facts, replace(WISH, launcher="exec that")) == [Launch(text="exec that")]


def test_nothing_is_left_to_do_after_an_apply():
    facts = after(BARE, WISH)
    for n in range(2, 8):
        assert plan(facts, replace(WISH, release=f"ecg-{n}")) != []
        facts = after(facts, replace(WISH, release=f"ecg-{n}"))
        assert plan(facts, replace(WISH, release=f"ecg-{n}")) == []


def test_a_new_runtime_reuses_what_the_device_has():
    newer = replace(RUNTIME, sha256="s" * 64)
    wish = replace(WISH, release="ecg-2", runtime="def", archives=(NUMPY, newer))
    steps = plan(after(BARE, WISH), wish)
    assert steps[1] == PushRuntime(files=(newer,))
    assert steps[2] == UnpackRuntime(runtime="def", sent=(newer,), reused=(NUMPY,))


def test_a_damaged_archive_is_not_reused_but_sent_again():
    facts = after(BARE, WISH)
    damaged = replace(facts, runtimes={"abc": RuntimeFacts(archives={"n" * 64: False, "r" * 64: True})})
    assert plan(damaged, WISH) == [
        Authenticate(release="ecg-1"),
        PushRuntime(files=(NUMPY,)),
        UnpackRuntime(runtime="abc", sent=(NUMPY,), reused=(RUNTIME,)),
        Check(release="ecg-1"),
    ]


def test_a_runtime_with_strange_files_is_put_together_anew_from_what_is_there():
    facts = after(BARE, WISH)
    strange = replace(facts.runtimes["abc"], is_clean=False)
    assert plan(replace(facts, runtimes={"abc": strange}), WISH) == [
        Authenticate(release="ecg-1"),
        UnpackRuntime(runtime="abc", sent=(), reused=WISH.archives),
        Check(release="ecg-1"),
    ]


def test_only_the_files_that_a_release_lacks_are_sent():
    facts = after(BARE, WISH)
    hashes = {"model.onnx": "x" * 64, "manifest.json": MANIFEST.sha256}
    damaged = replace(facts, releases={"ecg-1": ReleaseFacts(runtime="abc", files=hashes)})
    assert plan(damaged, WISH)[1] == PushRelease(release="ecg-1", runtime="abc", files=(MODEL,))


def test_a_release_that_never_became_active_is_checked_and_switched_to_without_sending():
    facts = replace(after(BARE, WISH), current=None, history=())
    assert plan(facts, WISH) == [
        Authenticate(release="ecg-1"),
        Check(release="ecg-1"),
        Switch(release="ecg-1", previous=None),
        Remember(releases=("ecg-1",)),
    ]


def test_leftovers_go_first():
    assert plan(replace(after(BARE, WISH), incoming=("deploy",)), WISH) == [Tidy(names=("deploy",))]


def test_what_is_kept_for_nothing_is_removed_last():
    facts = BARE
    for n in range(1, 6):
        facts = after(facts, replace(WISH, release=f"ecg-{n}", runtime=f"run-{n}", keep=9))
    wish = replace(WISH, release="ecg-6", runtime="run-5", keep=2)
    steps = plan(facts, wish)
    assert steps[-2] == Remember(releases=("ecg-4", "ecg-5", "ecg-6"))
    assert steps[-1] == Prune(releases=("ecg-1", "ecg-2", "ecg-3"), runtimes=("run-1", "run-2", "run-3"))


def test_a_runtime_left_by_an_interrupted_deployment_is_used_and_stays():
    facts = replace(after(BARE, WISH), releases={}, current=None, history=())
    steps = plan(facts, WISH)
    assert isinstance(steps[1], PushRelease)
    assert not [step for step in steps if isinstance(step, Prune)]


def test_a_switch_that_was_not_noted_is_still_the_newest():
    facts = after(after(BARE, WISH), replace(WISH, release="ecg-2"))
    assert replace(facts, history=("ecg-1",)).activations == ("ecg-1", "ecg-2")


def test_no_room_is_told_before_anything_is_sent():
    steps = plan(BARE, WISH)
    # A release's files arrive compressed and are unpacked; archives are sent as they are, then unpacked.
    needed = sum(2 * f.n_bytes for f in WISH.files) + sum(a.n_bytes for a in WISH.archives) + 60_200_000
    needed += BYTECODE_BYTES + RESERVE_BYTES
    require_space(replace(BARE, free_bytes=needed), steps, "pi")
    with pytest.raises(ShipError, match=r"pi: .* MiB free at /home/pi/v; .* MiB wanted"):
        require_space(replace(BARE, free_bytes=needed - 1), steps, "pi")
    require_space(replace(BARE, free_bytes=0), [], "pi")


def test_every_step_reads_as_one_line():
    for step in plan(BARE, WISH):
        assert "\n" not in str(step)
        assert "(" not in str(step).split(" ")[0]


def said(python: str, ok: bool) -> list[bytes]:
    """What the boot line of a Python answers first."""
    version = [int(part) for part in python.split(".")]
    return [b"vitaledge-helper " + json.dumps({"python": version, "executable": "/p", "ok": ok}).encode()]


class Machine:
    """A transport to a machine that has some Pythons; each says its lines, then ends."""

    lease_s = 0.0

    def __init__(self, **lines: list[bytes]) -> None:
        self.lines = lines

    def talk(self, argv, sign_of_life):
        """See `Transport.talk`."""
        return Said(self.lines.get(argv[0].replace(".", "_")))


class Said:
    """A program that says some lines whatever it is told."""

    def __init__(self, lines: list[bytes] | None) -> None:
        self.rc = NOT_FOUND if lines is None else 0
        self.lines = list(lines or [])

    def exchange(self, frames):
        """See `Talk.exchange`."""
        return self.lines.pop(0) + b"\n" if self.lines else b""

    def close(self):
        """See `Talk.close`."""
        return Completed(self.rc, b"", b"")


def test_an_old_python3_does_not_hide_a_newer_one():
    machine = Machine(python3=said("3.6.9", False), python3_11=said("3.11.2", True))
    assert start(machine, "pi", ["/brought"]).python == (3, 11, 2)


def test_lines_that_a_login_script_prints_are_passed_over():
    machine = Machine(python3=[b"Welcome!", b"", *said("3.11.2", True)])
    assert start(machine, "pi", ["/brought"]).executable == "/p"


def test_a_device_without_a_fitting_python_is_refused_kindly():
    with pytest.raises(ShipError, match=r"python3 is 3\.6\.9; Python >= 3\.10 wanted"):
        start(Machine(python3=said("3.6.9", False)), "pi", ["/brought"])
    with pytest.raises(ShipError, match="no python3 found"):
        start(Machine(), "pi", ["/brought"])
    with pytest.raises(ShipError, match="does the login shell there run programs"):
        start(Machine(python3=[b"This account is not available."]), "pi", ["/brought"])


def test_facts_of_another_schema_are_refused():
    with pytest.raises(ShipError, match="facts have schema 2; 1 wanted"):
        read_facts({**RECORDED["fresh"], "schema": 2}, "pi")


def test_the_boot_line_is_in_the_syntax_of_python_3_6():
    tree = ast.parse(BOOT, feature_version=(3, 6))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.AnnAssign | ast.NamedExpr)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"machine": "armv7l", "bits": 32}, "armv7l with a 32-bit Python"),
        ({"libc": "", "libc_version": ""}, "glibc wanted"),
        ({"implementation": "pypy"}, "CPython wanted"),
    ],
)
def test_a_machine_that_no_wheel_is_built_for_is_refused(change, words):
    with pytest.raises(ShipError, match=words):
        platform_of(replace(BARE, **change), "pi")


def test_a_status_reads_as_lines_without_python_in_them():
    first = after(BARE, WISH)
    damaged = replace(first, runtimes={"abc": RuntimeFacts(archives={"n" * 64: False, "r" * 64: True})})
    for facts in (BARE, first, replace(damaged, incoming=("deploy",))):
        text = facts.to_text()
        assert "None" not in text
        assert not set(text) & set("{}[]'")
    assert "current    none" in BARE.to_text()
    assert "release    ecg-1: 2 files, runtime abc" in first.to_text()
    assert "runtime    abc: 2 archives, whole" in first.to_text()
    assert "runtime    abc: 2 archives, 1 DAMAGED" in damaged.to_text()
    assert "command    /home/pi/v/bin/edge-runtime" in first.to_text()
