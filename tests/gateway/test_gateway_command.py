"""The words of `edge-runtime gateway`: streams before and behind options, and what is refused under its own usage."""

from __future__ import annotations

import re

import pytest

from edge_runtime.cli import _parser, main
from edge_runtime.gateway_cli import EXAMPLES, read_settings
from edge_runtime.sensors.wired import parse_wired


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "-1"])
def test_a_status_every_no_seconds_is_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["gateway", "bundle", "bed=synthetic:", f"--status={seconds}"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: edge-runtime gateway ")
    assert f"argument --status: found '{seconds}'; a positive number" in said.splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [
        ["bundle", "a=synthetic:", "b=synthetic:", "--streams", "ward.toml", "--status", "5", "--json"],
        ["bundle", "--streams", "ward.toml", "--status", "5", "--json", "a=synthetic:", "b=synthetic:"],
        ["--json", "--status", "5", "bundle", "a=synthetic:", "--streams", "ward.toml", "b=synthetic:"],
        ["--json", "bundle", "--status", "5", "a=synthetic:", "--streams", "ward.toml", "--", "b=synthetic:"],
    ],
)
def test_streams_stand_before_options_behind_them_and_between(words: list[str]) -> None:
    found = _parser("gateway").parse_args(["gateway", *words])
    assert str(found.bundle) == "bundle"
    assert found.sources == ["a=synthetic:", "b=synthetic:"]
    assert (str(found.streams), found.status, found.json) == ("ward.toml", 5.0, True)


def test_an_option_that_does_not_exist_is_said_under_the_usage_of_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["gateway", "bundle", "a=synthetic:", "--jsno"], ["probe", "/dev/null", "--jsno"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith(f"usage: edge-runtime {words[0]} ")
        assert said.splitlines()[-1] == f"edge-runtime {words[0]}: error: unrecognized arguments: --jsno"


def test_the_streams_of_the_help_are_such_that_can_be_opened() -> None:
    quoted = re.findall(r"(bed\d)='([^']+)'", EXAMPLES)
    filed = re.findall(r'(bed\d) = "([^"]+)"', EXAMPLES)
    assert quoted == filed
    assert len(quoted) == 2
    for url in read_settings(None, [f"{name}={url}" for name, url in quoted]).streams.values():
        where, _, query = url.partition("?")
        parse_wired(query, where)  # raises for a key that is missing or unknown
