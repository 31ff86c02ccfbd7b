"""What the host's verbs share: the options of all that ship arrive as one value, in whichever verb they stand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from host_tools.cli import _parser
from host_tools.command_line import ship_options
from host_tools.ship.options import Limits, ShipOptions

RUNTIME = ("numpy", "psutil", "pyserial")
# Every verb with a target, as few words as it takes.
VERBS = {
    "demo": ["demo"],
    "run": ["run", "ecg-beats"],
    "deploy": ["deploy", "b", "local:x"],
    "trust": ["trust", "local:x"],
    "service": ["service", "status", "local:x"],
    "rollback": ["rollback", "local:x"],
    "doctor": ["doctor", "local:x"],
    "status": ["status", "local:x"],
    "bench": ["bench", "b", "local:x"],
    **{f"fleet {v}": ["fleet", "f", v] for v in ("status", "rollback", "logs")},
    "fleet deploy": ["fleet", "f", "deploy", "b"],
    "fleet collect": ["fleet", "f", "collect", "--out", "x"],
    "fleet exec": ["fleet", "f", "exec", "--", "check"],
}
SHIP_A_RUNTIME = {"demo", "run", "deploy", "doctor", "bench", "fleet deploy"}
SIGN = {"deploy", "fleet deploy"}
HOLD_LIMITS = {"deploy", "rollback", "fleet deploy", "fleet rollback"}


def words(verb: str, *options: str) -> list[str]:
    """Options stand before `--`, behind which all words are arguments."""
    few = VERBS[verb]
    at = few.index("--") if "--" in few else len(few)
    return [*few[:at], *options, *few[at:]]


def asked(verb: str, *options: str) -> ShipOptions:
    return ship_options(_parser().parse_args(words(verb, *options)))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / name for name in ("hosts", "key", "archive", "signer")}
    for file in found.values():
        file.write_text("")
    return {**found, "wheels": tmp_path}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_without_options_ships_as_usual(verb: str) -> None:
    assert asked(verb) == ShipOptions()


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_that_a_verb_has_arrives(verb: str, files: dict[str, Path]) -> None:
    options = ["--known-hosts", str(files["hosts"]), "--key", str(files["key"]), "--accept-new"]
    wanted = ShipOptions(known_hosts=files["hosts"], key_file=files["key"], accept_new=True)
    if verb in SHIP_A_RUNTIME:
        options += ["--wheels", str(files["wheels"]), "--python-archive", str(files["archive"]), "--engine", "litert"]
        requirements = (*RUNTIME, "ai-edge-litert")
        wanted = replace(wanted, wheels=files["wheels"], python_archive=files["archive"], requirements=requirements)
    if verb in SIGN:
        options += ["--sign", str(files["signer"]), "--allow-downgrade"]
        wanted = replace(wanted, sign_key=files["signer"], allow_downgrade=True)
    if verb in HOLD_LIMITS:
        options += ["--max-hop-ms", "5", "--max-memory", "64", "--reading-within", "7", "--exact"]
        limits = Limits(reading_s=7.0, max_block_ms=5.0, max_memory_mib=64.0, exact=True)
        wanted = replace(wanted, limits=limits)
    assert asked(verb, *options) == wanted


@pytest.mark.parametrize(
    ("option", "having"),
    [("--wheels=x", SHIP_A_RUNTIME), ("--allow-downgrade", SIGN), ("--exact", HOLD_LIMITS)],
)
def test_no_other_verb_has_the_options_of_shipping(
    option: str, having: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in VERBS.keys() - having:
        with pytest.raises(SystemExit):
            _parser().parse_args(words(verb, option))
        assert f"unrecognized arguments: {option}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("engine", "packages"),
    [
        ("onnxruntime", {"onnxruntime"}),
        ("litert", {"ai-edge-litert"}),
        ("both", {"onnxruntime", "ai-edge-litert"}),
    ],
)
def test_the_device_gets_the_engines_that_were_asked_for(engine: str, packages: set[str]) -> None:
    found = asked("deploy", "--engine", engine).requirements
    assert set(found) == {*RUNTIME, *packages}
    assert len(found) == len(set(found))
