"""Both command lines: help with examples, exit codes, and one line for everything that can be expected to fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import __version__
from edge_runtime.cli import _parser as edge_parser
from edge_runtime.cli import main as edge_main
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import one_line
from host_tools.cli import _parser as host_parser
from host_tools.cli import main as host_main
from host_tools.command_line import command as register
from host_tools.data.sets import ROOT_VARIABLE

Main = Callable[[list[str]], int]
SOURCE = "synthetic:?seconds=8&heart_rate=75"
BOTH = pytest.mark.parametrize(("main", "name"), [(edge_main, "edge-runtime"), (host_main, "vitaledge")])


class Said:
    """What a command left: exit code, lines of standard output, lines of standard error."""

    def __init__(self, main: Main, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        capsys.readouterr()
        try:
            self.code = main(arguments)
        except SystemExit as end:
            self.code = end.code  # type: ignore[assignment]
        out, err = capsys.readouterr()
        self.out, self.err = out.splitlines(), err.splitlines()


Run = Callable[[Main, list[str]], Said]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda main, arguments: Said(main, arguments, capsys)


def refusal(said: Said, name: str) -> str:
    """The one line of a command that refused or failed."""
    assert said.code == 1
    assert said.out == []
    assert len(said.err) == 1, said.err
    assert said.err[0].startswith(f"{name}: ")
    return said.err[0]


@BOTH
def test_help_shows_every_command_and_examples(run: Run, main: Main, name: str) -> None:
    said = run(main, ["--help"])
    text = "\n".join(said.out)
    assert said.code == 0
    assert text.count(f"  {name} ") >= 5
    commands = {
        "edge-runtime": ("run", "replay", "bench", "check", "info"),
        "vitaledge": ("demo", "run", "data", "deploy", "rollback", "status", "bench", "report"),
    }[name]
    for command in commands:
        assert f"\n    {command} " in text
        assert run(main, [command, "--help"]).code == 0


@BOTH
def test_the_version_is_the_packages(run: Run, main: Main, name: str) -> None:
    said = run(main, ["--version"])
    assert (said.code, said.out) == (0, [f"{name} {__version__}"])


@BOTH
@pytest.mark.parametrize("arguments", [[], ["dance"], ["bench"], ["bench", "a", "b", "c", "d"]])
def test_wrong_usage_is_2(run: Run, main: Main, name: str, arguments: list[str]) -> None:
    said = run(main, arguments)
    assert said.code == 2
    assert said.err[0].startswith(f"usage: {name}")


@pytest.mark.parametrize("package", ["edge_runtime", "host_tools"])
def test_help_is_shown_without_heavy_libraries(package: str) -> None:
    heavy = {"numpy", "torch", "onnx", "onnxruntime", "wfdb", "scipy", "sklearn", "asyncssh", "rich"}
    program = (
        f"import atexit, sys; from {package}.cli import main; "
        f"atexit.register(lambda: print('loaded', sorted({heavy!r} & set(sys.modules)))); main(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: ")
    assert done.stdout.splitlines()[-1] == "loaded []"


# The device's commands.


def test_replay_prints_one_object_a_line_and_the_ledger_last(run: Run, int8_bundle: Bundle) -> None:
    said = run(edge_main, ["replay", str(int8_bundle.path), SOURCE, "--json"])
    assert said.code == 0
    *beats, ledger = [json.loads(line) for line in said.out]
    counts = {"received": 2000, "scored": 2000, "dropped": 0, "gap": 0}
    assert ledger == {"name": "ledger", **counts, "simulated": True}
    assert len(beats) > 7
    for beat in beats:
        assert list(beat) == ["name", "sample", "t_s", "class", "confidence", "quality", "simulated"]
        assert beat["name"] == "beat"
        assert beat["class"] in ("N", "S", "V", "F")
        assert beat["t_s"] == pytest.approx(beat["sample"] / 250.0, abs=1e-6)
        assert 0.0 <= beat["confidence"] <= 1.0
        assert 0.0 <= beat["quality"] <= 1.0
    assert [b["sample"] for b in beats] == sorted({b["sample"] for b in beats})


def test_replay_for_people_ends_with_the_ledger_too(run: Run, int8_bundle: Bundle) -> None:
    said = run(edge_main, ["replay", str(int8_bundle.path), SOURCE])
    assert said.code == 0
    assert said.out[-1] == "2000 samples received: 2000 scored, 0 dropped, 0 missing  (simulated)"


def test_check_says_passed_and_is_0(run: Run, int8_bundle: Bundle) -> None:
    said = run(edge_main, ["check", str(int8_bundle.path), "--json"])
    assert said.code == 0
    value = json.loads(said.out[0])
    assert value["bundle"] == int8_bundle.id
    assert value["is_passed"] is True
    assert value["is_equal"] is True
    assert "golden vectors passed" in run(edge_main, ["check", str(int8_bundle.path)]).out[0]


def test_info_says_what_the_bundle_is(run: Run, int8_bundle: Bundle) -> None:
    value = json.loads(run(edge_main, ["info", str(int8_bundle.path), "--json"]).out[0])
    assert value["bundle"] == int8_bundle.id
    assert value["classes"] == ["N", "S", "V", "F"]
    assert value["hop_s"] == 0.2
    assert value["simulated"] is True
    assert {"trunk", "head"} == set(value["graphs"])


def test_a_damaged_or_missing_bundle_is_one_line(
    run: Run, int8_bundle: Bundle, copied: Callable[[Bundle], Path], tmp_path: Path
) -> None:
    for command in (["check"], ["info"], ["replay", SOURCE], ["run", SOURCE]):
        said = run(edge_main, [command[0], str(tmp_path / "gone"), *command[1:]])
        assert "a bundle directory wanted" in refusal(said, "edge-runtime")
    path = copied(int8_bundle) / "trunk.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)
    for command in (["check"], ["replay", SOURCE, "--json"]):
        said = run(edge_main, [command[0], str(path.parent), *command[1:]])
        assert "trunk.onnx: sha256 is" in refusal(said, "edge-runtime")


def test_a_bundle_that_answers_otherwise_is_1(run: Run, int8_bundle: Bundle, copied: Callable[[Bundle], Path]) -> None:
    manifest = copied(int8_bundle) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"detection_threshold": 0.5', '"detection_threshold": 0.999999'))
    said = run(edge_main, ["check", str(manifest.parent)])
    assert said.code == 1
    assert "golden vectors FAILED" in said.out[0]
    assert len(said.err) == 1
    assert said.err[0].startswith(f"edge-runtime: {manifest.parent}: golden vectors failed: ")
    assert "do not use it here" in said.err[0]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("synthetic", "SCHEME:PATH?key=value wanted"),
        ("synthetic:?speed=fast", "speed is 'fast'; a number wanted"),
        ("synthetic:?colour=red", "unknown key 'colour'"),
        ("wfdb:/nowhere/100", "/nowhere/100.hea: no such file"),
        ("npy:/nowhere/x.npy?rate_hz=250", "/nowhere/x.npy: no such file"),
        ("serial:///dev/nothing?protocol=csv&rate_hz=250", "/dev/nothing"),
    ],
)
def test_a_wrong_source_is_one_line(run: Run, int8_bundle: Bundle, source: str, words: str) -> None:
    assert words in refusal(run(edge_main, ["replay", str(int8_bundle.path), source]), "edge-runtime")


def test_a_stream_of_the_wrong_rate_or_without_numbers_is_one_line(
    run: Run, int8_bundle: Bundle, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.full(5000, np.nan, np.float32))
    np.save(tmp_path / "y.npy", np.zeros(5000, np.float32))
    bundle = str(int8_bundle.path)
    said = run(edge_main, ["replay", bundle, f"npy:{tmp_path}/x.npy?rate_hz=250"])
    assert "are not numbers; at most 50% may be" in refusal(said, "edge-runtime")
    said = run(edge_main, ["replay", bundle, f"npy:{tmp_path}/y.npy?rate_hz=20"])
    assert "stream rate is 20 Hz; 50 to 4096 Hz wanted" in refusal(said, "edge-runtime")


def test_bench_without_records_is_one_line(run: Run, int8_bundle: Bundle, tmp_path: Path) -> None:
    said = run(edge_main, ["bench", str(int8_bundle.path), str(tmp_path), "--out", str(tmp_path / "r.json")])
    assert "records.json: cannot be read" in refusal(said, "edge-runtime")


def test_info_for_people_shows_no_python(run: Run, int8_bundle: Bundle) -> None:
    said = run(edge_main, ["info", str(int8_bundle.path)])
    assert not [line for line in said.out if "None" in line or set(line) & set("{}[]'")]
    assert f"{'created':20} {int8_bundle.manifest.created}" in said.out
    assert f"{'classes':20} N, S, V, F" in said.out


def test_bench_that_cannot_write_refuses_before_it_measures(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    # There is no bundle either: the place of the report is looked at first.
    said = run(edge_main, ["bench", "gone", "gone", "--out", str(tmp_path / "file" / "r.json")])
    assert f"{tmp_path / 'file'}: File exists" in refusal(said, "edge-runtime")
    said = run(edge_main, ["bench", "gone", "gone", "--out", str(tmp_path)])
    assert refusal(said, "edge-runtime") == f"edge-runtime: {tmp_path}: Is a directory (name a file)"


def test_bench_makes_the_folder_of_its_report_and_leaves_no_empty_one(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "new" / "r.json"
    assert "a bundle directory wanted" in refusal(
        run(edge_main, ["bench", str(tmp_path), str(tmp_path), "--out", str(out)]), "edge-runtime"
    )
    assert out.parent.is_dir()
    assert not out.exists()


# Both.


@pytest.mark.parametrize("threads", ["0", "-1", "two", "1.5"])
def test_threads_are_whole_numbers_from_1_on(run: Run, threads: str) -> None:
    for main, arguments in ((edge_main, ["check", "b"]), (edge_main, ["bench", "b", "r", "--out", "x"])):
        said = run(main, [*arguments, f"--threads={threads}"])
        assert said.code == 2
        assert f"argument --threads: found '{threads}'; a whole number from 1 on wanted" in said.err[-1]
    said = run(host_main, ["bench", "b", "local:x", f"--threads={threads}"])
    assert said.code == 2
    assert f"argument --threads: found '{threads}'; a whole number from 1 on wanted" in said.err[-1]


@pytest.mark.parametrize("parser", [edge_parser, host_parser], ids=["edge-runtime", "vitaledge"])
def test_every_subcommand_shows_examples_and_explains_every_argument(parser: Callable[[], ArgumentParser]) -> None:
    commands = next(a for a in parser()._actions if a.dest == "==SUPPRESS==" or a.nargs == "A...").choices
    assert len(commands) >= 5
    for name, command in commands.items():
        assert command.epilog.startswith(f"examples:\n  {parser().prog} {name}"), name
        for action in command._actions:
            assert action.help, (name, action.dest)


# The host's commands.


@pytest.fixture
def without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)


@pytest.mark.usefixtures("without_root")
def test_a_missing_or_wrong_data_root_is_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["run", "ecg-beats", "--data", "mitdb", "--out", str(tmp_path / "out")]
    text = refusal(run(host_main, arguments), "vitaledge")
    assert f"no data root; set {ROOT_VARIABLE}" in text
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "gone"))
    assert f"{tmp_path / 'gone' / 'mitdb'}: no such folder" in refusal(run(host_main, arguments), "vitaledge")
    (tmp_path / "mitdb").mkdir()
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert "mitdb/101.hea: no such file" in refusal_behind_bars(run(host_main, arguments))
    monkeypatch.delenv(ROOT_VARIABLE)
    assert f"set {ROOT_VARIABLE}" in refusal(run(host_main, ["data", "fetch", "mitdb"]), "vitaledge")


def refusal_behind_bars(said: Said) -> str:
    """The last line of a command that failed in the middle of its work."""
    assert said.code == 1
    assert not any("Traceback" in line for line in said.err)
    return said.err[-1]


@pytest.mark.usefixtures("without_root")
def test_a_wrong_recipe_is_one_line(run: Run, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('schema = 1\nname = "mine"\n[student]\nflavour = 3\n')
    arguments = ["run", str(recipe), "--data", "simulated", "--out", str(tmp_path / "out")]
    text = refusal(run(host_main, arguments), "vitaledge")
    assert f"{recipe}.student: unknown key 'flavour'; keys are " in text
    recipe.unlink()
    assert "cannot be read" in refusal(run(host_main, arguments), "vitaledge")


@pytest.mark.usefixtures("without_root")
def test_deploy_and_bench_of_a_damaged_bundle_are_one_line(
    run: Run, int8_bundle: Bundle, copied: Callable[[Bundle], Path], tmp_path: Path
) -> None:
    path = copied(int8_bundle) / "head.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    for command in ("deploy", "bench"):
        text = refusal_behind_bars(run(host_main, [command, str(path.parent), f"local:{tmp_path / 'target'}"]))
        assert text.startswith("vitaledge: ")
        assert "head.onnx: sha256 is" in text
    assert not (tmp_path / "target").exists()


@pytest.mark.usefixtures("without_root")
@pytest.mark.parametrize("target", ["nowhere", "http://host", "ssh://"])
def test_a_wrong_target_is_one_line(run: Run, int8_bundle: Bundle, target: str) -> None:
    assert refusal_behind_bars(run(host_main, ["deploy", str(int8_bundle.path), target])).startswith("vitaledge: ")


def test_a_report_of_nothing_is_one_line(run: Run, tmp_path: Path) -> None:
    arguments = ["report", str(tmp_path / "gone.json"), "--out", str(tmp_path / "page")]
    assert "a JSON report wanted" in refusal(run(host_main, arguments), "vitaledge")
    (tmp_path / "gone.json").write_text('{"schema": 99}')
    assert "schema is 99" in refusal(run(host_main, arguments), "vitaledge")


@pytest.mark.usefixtures("without_root")
def test_what_the_system_refuses_is_one_line(run: Run, int8_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out, target = tmp_path / "file" / "out", tmp_path / "target"
    text = refusal_behind_bars(run(host_main, ["run", "demo", "--data", "simulated", "--out", str(out)]))
    assert text.startswith(f"vitaledge: {out}/")
    assert text.endswith(": Not a directory (choose another place)")
    arguments = ["bench", str(int8_bundle.path), f"local:{target}", "--data", "simulated", "--records", "sim16"]
    text = refusal_behind_bars(run(host_main, [*arguments, "--out", str(out)]))
    assert text == f"vitaledge: {out.parent}: File exists (remove it, or choose another place)"
    # It was refused before anything was deployed.
    assert not target.exists()


def test_a_full_disk_says_what_to_do(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with pytest.raises(OSError, match="No space") as caught:
        Path("/dev/full").write_text("x")
    assert one_line(caught.value) == "No space left on device (free some space, or choose another place)"
    assert one_line(OSError("4096 requested and 0 written")) == "4096 requested and 0 written"
    assert one_line(FileNotFoundError(2, "No such file", "/x")) == (
        "/x: No such file (is the path right, and is its folder there?)"
    )


@pytest.mark.parametrize(
    ("option", "words"),
    [("--key", "private key"), ("--known-hosts", "file of trusted host keys"), ("--wheels", "folder of wheels")],
)
def test_an_option_that_names_nothing_is_refused_for_a_local_target_too(
    run: Run, int8_bundle: Bundle, tmp_path: Path, option: str, words: str
) -> None:
    gone, target = tmp_path / "gone", f"local:{tmp_path / 'target'}"
    text = refusal_behind_bars(run(host_main, ["deploy", str(int8_bundle.path), target, option, str(gone)]))
    assert text == f"vitaledge: {option} {gone}: no such file or folder; a {words} wanted"
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    ("arguments", "goes_on"),
    [
        (["demo"], True),
        (["run", "ecg-beats"], True),
        (["data", "fetch", "mitdb"], True),
        (["deploy", "b", "local:x"], True),
        (["bench", "b", "local:x"], False),
        (["status", "local:x"], False),
        (["rollback", "local:x"], False),
        (["report", "r"], False),
    ],
)
def test_only_what_goes_on_says_so_when_it_is_interrupted(arguments: list[str], goes_on: bool) -> None:
    assert host_parser().parse_args(arguments).goes_on is goes_on


def test_only_commands_that_ship_a_runtime_offer_wheels(run: Run) -> None:
    offer = {
        name
        for name in ("demo", "run", "data", "deploy", "rollback", "status", "bench", "report")
        if any("--wheels" in line for line in run(host_main, [name, "--help"]).out)
    }
    assert offer == {"demo", "run", "deploy", "bench"}


@pytest.mark.parametrize(("goes_on", "said"), [(False, ""), (True, "; run the same command again to go on")])
def test_an_interrupted_command_says_so_and_exits_as_shells_do(
    goes_on: bool, said: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("host_tools.cli.VERBS", [lambda verbs: register(verbs, "wait", wait, "wait", goes_on=goes_on)])
    found = run(host_main, ["wait"])
    assert found.code == 130
    assert found.err == [f"vitaledge: interrupted{said}"]
