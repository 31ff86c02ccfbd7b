"""`vitaledge fleet logs`: what journalctl is asked on every host, and what becomes of what it says."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from host_tools.cli import main

# It notes what it was asked, and says as many lines as it was asked for, with bytes that are no text.
JOURNALCTL = """#!{python}
import json, os, sys
with open({asked!r}, "a") as stream:
    stream.write(json.dumps(sys.argv[1:]) + "\\n")
{act}
n = int(sys.argv[sys.argv.index("-n") + 1])
for i in range(n):
    os.write(1, b"2026-01-01T00:00:0%d+0000 gateway edge-runtime[7]: {{reading %d \\xff}}\\n" % (i, i))
"""


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """A journalctl before all others on the PATH; gives a way to change what it does, and what it was asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def acts(act: str = "") -> Path:
        path = folder / "journalctl"
        path.write_text(JOURNALCTL.format(python=sys.executable, asked=str(tmp_path / "asked"), act=act))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return tmp_path / "asked"

    return acts


@pytest.fixture
def ward(tmp_path):
    """Two folders of this machine, and a host that nobody answers at."""
    path = tmp_path / "ward.toml"
    path.write_text(
        f'schema = 1\ntarget = "local:{tmp_path}/{{host}}"\n[hosts.a]\n[hosts.b]\n'
        '[hosts.dead]\ntarget = "ssh://127.0.0.1:1/x"\n'
    )
    return str(path)


def test_every_line_says_whose_it_is(journal, ward, capsys):
    journal()
    assert main(["fleet", ward, "logs", "--lines", "2", "--only", "a", "b"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{host}: 2026-01-01T00:00:0{i}+0000 gateway edge-runtime[7]: {{reading {i} \N{REPLACEMENT CHARACTER}}}"
        for host in "ab"
        for i in range(2)
    ]


def test_the_last_lines_of_the_service_alone_are_asked_for_and_twenty_by_themselves(journal, ward, capsys):
    asked = journal()
    assert main(["fleet", ward, "logs", "--only", "a"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 20
    (words,) = map(json.loads, asked.read_text().splitlines())
    # journalctl(1): of a unit, of the system's or of this user's; without a pager, for nobody sits there.
    assert words[words.index("-u") + 1] == words[words.index("--user-unit") + 1] == "vitaledge"
    assert words[words.index("-n") + 1] == "20"
    assert "--no-pager" in words


def test_a_host_that_is_away_keeps_no_log_of_the_others_back(journal, ward, capsys):
    journal()
    assert main(["fleet", ward, "logs", "--lines", "1", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["verb"] == "logs"
    found = {one["host"]: (one["state"], len(one["answer"].get("lines", []))) for one in said["hosts"]}
    assert found == {"a": ("done", 1), "b": ("done", 1), "dead": ("away", 0)}


def test_why_a_journal_cannot_be_read_is_told_in_its_own_words(journal, ward, capsys):
    journal("sys.stderr.write('Failed to open journal\\n'); sys.exit(1)")
    assert main(["fleet", ward, "logs", "--only", "a"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("a: failed: ")
    assert said.err.endswith("journalctl ended with 1: Failed to open journal\n")
    assert (said.err + said.out).count("\n") == 1


def test_a_host_without_systemd_says_so(tmp_path, ward, capsys, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert main(["fleet", ward, "logs", "--only", "a"]) == 1
    assert "journalctl ended with 127: journalctl: not found" in capsys.readouterr().err


def test_a_journal_without_a_line_is_not_silence(journal, ward, capsys):
    journal("sys.exit(0)")
    assert main(["fleet", ward, "logs", "--only", "a"]) == 0
    assert capsys.readouterr().out == "a: no line of the service, or none that this user may read\n"


@pytest.mark.parametrize("n", ["0", "-3", "x"])
def test_a_number_of_lines_that_is_none_is_refused(ward, n, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["fleet", ward, "logs", "--lines", n])
    assert ended.value.code == 2
    assert "a whole number from 1 on wanted" in capsys.readouterr().err
