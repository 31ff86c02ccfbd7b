"""Choosing a form on the device: what is measured, refused, picked, remembered and forgotten."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import litert_runs
import pytest

import edge_runtime
from edge_runtime.choose import Measured, best, choose, measure_forms
from edge_runtime.cli import main
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import EngineError
from edge_runtime.contract.manifest import Form
from edge_runtime.forms import cache_folder, open_form, read_choice, remember
from host_tools.export.forms import litert_forms, with_forms

litert_runs.needs_litert()


@pytest.fixture(scope="module")
def two_forms_bundle(int8_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    place = tmp_path_factory.mktemp("two") / "bundle"
    return with_forms(int8_bundle, litert_forms(int8_bundle), place).bundle


def form(engine: str, precision: str) -> Form:
    return Form(engine=engine, precision=precision, graphs=())  # type: ignore[arg-type]


ORT, LITERT = form("onnxruntime", "int8"), form("litert", "int8")


def test_the_fastest_is_picked_and_the_reason_names_the_next() -> None:
    slow = Measured(form=ORT, provider="CPUExecutionProvider", hop_ns=50_000, peak_rss_bytes=60_000_000)
    fast = Measured(form=LITERT, provider="XNNPACK", hop_ns=20_000, peak_rss_bytes=40_000_000)
    chosen, why = best([slow, fast], "here")
    assert chosen is fast
    assert why == "litert int8: 20 us a hop, 40.0 MB (XNNPACK); 2.50 times as fast as onnxruntime int8"


def test_what_is_refused_is_not_picked_however_fast() -> None:
    slow = Measured(form=ORT, provider="CPUExecutionProvider", hop_ns=50_000, peak_rss_bytes=60_000_000)
    chosen, why = best([slow, Measured(form=LITERT, refused="needs 90 MB")], "here")
    assert chosen is slow
    assert "litert int8: not chosen: needs 90 MB" in why
    with pytest.raises(EngineError, match="here: no form can run here: litert int8: not chosen: needs 90 MB"):
        best([Measured(form=LITERT, refused="needs 90 MB")], "here")


def test_all_forms_are_measured_the_best_is_remembered_and_run_uses_it(
    all_forms_bundle: Bundle, tmp_path: Path
) -> None:
    seen: list[str] = []
    measured, chosen, why, place = choose(all_forms_bundle, cache=tmp_path, progress=seen.append, rounds=1)
    names = [f.name for f in all_forms_bundle.manifest.all_forms]
    assert [m.form.name for m in measured] == names
    assert seen == [f"round 1 of 1: {name}" for name in names]
    assert not any(m.refused for m in measured), [m.to_text() for m in measured]
    assert all(1_000 < m.hop_ns < 1e9 and 10e6 < m.peak_rss_bytes < 1e9 for m in measured)
    assert chosen.hop_ns == min(m.hop_ns for m in measured)
    assert json.loads(place.read_text())["why"] == why
    bundle, engine = open_form(all_forms_bundle, cache=tmp_path)
    assert (engine.name, bundle.manifest.step_graph.precision) == (chosen.form.engine, chosen.form.precision)


def test_a_package_that_is_a_link_to_its_sources_is_found_by_the_processes_that_measure(
    all_forms_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = Path(edge_runtime.__file__ or "").resolve().parents[1]
    monkeypatch.setattr(sys, "path", [p for p in sys.path if Path(p).resolve() != sources])
    assert [m.refused for m in measure_forms(all_forms_bundle, 1, None, rounds=1) if m.refused] == []


def test_a_form_over_the_memory_limit_is_refused_with_both_figures(two_forms_bundle: Bundle) -> None:
    measured = measure_forms(two_forms_bundle, 1, limit_bytes=1_000_000)
    assert [m.form.name for m in measured] == ["onnxruntime int8", "litert int8"]
    assert all("the limit is 1.0 MB" in m.refused for m in measured)


def test_without_a_choice_the_first_installed_form_runs(all_forms_bundle: Bundle, tmp_path: Path) -> None:
    bundle, engine = open_form(all_forms_bundle, cache=tmp_path)
    assert (engine.name, bundle.form) == ("onnxruntime", None)


def test_a_choice_holds_for_its_bundle_version_and_cpu_only(
    all_forms_bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = next(f for f in all_forms_bundle.manifest.all_forms if f.name == "litert fp32")
    _, engine = open_form(all_forms_bundle, "litert")
    place = remember(all_forms_bundle, wanted, engine.version, "tried", tmp_path)
    assert open_form(all_forms_bundle, cache=tmp_path)[0].form == wanted
    # What is asked for goes before what is remembered.
    assert open_form(all_forms_bundle, "onnxruntime", cache=tmp_path)[1].name == "onnxruntime"
    assert read_choice(replace(all_forms_bundle, id="other"), tmp_path) is None
    for key, value in (("version", "0.1"), ("cpu", "another"), ("engine", "tvm"), ("schema", "x")):
        choice = json.loads(place.read_text())
        place.write_text(json.dumps({**choice, key: value}))
        assert open_form(all_forms_bundle, cache=tmp_path)[0].form is None, key
        place.write_text(json.dumps(choice))
    place.write_text("no JSON")
    assert open_form(all_forms_bundle, cache=tmp_path)[0].form is None


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("VITALEDGE_CACHE", raising=False)
    assert cache_folder() == tmp_path / "xdg" / "vitaledge"
    monkeypatch.setenv("VITALEDGE_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_the_command_chooses_and_info_and_check_tell_it(
    two_forms_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VITALEDGE_CACHE", str(tmp_path))
    folder = str(two_forms_bundle.path)
    assert main(["check", folder, "--choose", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [f"{f['engine']} {f['precision']}" for f in said["forms"]] == ["onnxruntime int8", "litert int8"]
    assert main(["info", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["chosen"] == said["why"]
    assert main(["check", folder, "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)
    assert f"{checked['engine']} {checked['precision']}" == said["chosen"]


@pytest.mark.parametrize("words", [["--engine", "litert"], ["--engine", "litert", "--precision", "fp32"]])
def test_replay_runs_the_form_that_is_asked_for(
    all_forms_bundle: Bundle, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    source = "synthetic:?heart_rate=72&seconds=12"
    assert main(["replay", str(all_forms_bundle.path), source, "--json", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(json.loads(line).get("name") == "beat" for line in lines)
