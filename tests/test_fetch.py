"""Fetching MIT-BIH from a fake PhysioNet: resumed, checked, and refused in one line."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_runtime.contract.errors import SourceError
from host_tools.data import fetch, mitdb, nstdb

NAMES = [f"{r}.{s}" for r in mitdb.DS1 + mitdb.DS2 for s in ("hea", "dat", "atr")]
NOISE = [f"{r}.{s}" for r in ("bw", "em", "ma") for s in ("hea", "dat")]


class FakePhysioNet:
    """Serves small files; goes on where a local file stops, as wfdb.dl_files does."""

    def __init__(self, damaged: Sequence[str] = ()) -> None:
        self.files = {name: f"content of {name}".encode() for name in (*NAMES, *NOISE)}
        sums = "".join(f"{hashlib.sha256(data).hexdigest()} {name}\n" for name, data in self.files.items())
        self.files[fetch.SUMS] = sums.encode()
        self.files |= dict.fromkeys(damaged, b"damaged on the way")
        self.asked: list[tuple[str, bool]] = []

    def download(self, files: Sequence[str], folder: Path, overwrite: bool) -> None:
        for name in files:
            self.asked.append((name, overwrite))
            here = b"" if overwrite or not (folder / name).is_file() else (folder / name).read_bytes()
            (folder / name).write_bytes(here + self.files[name][len(here) :])


@pytest.fixture(autouse=True)
def _records_load(monkeypatch: pytest.MonkeyPatch) -> None:
    # The fake serves no real records; loading real ones has its own tests.
    monkeypatch.setattr(mitdb, "load", lambda root, name: None)


def test_everything_is_fetched_checked_and_left_alone_the_second_time(tmp_path: Path) -> None:
    net, seen = FakePhysioNet(), []
    assert fetch.fetch_mitdb(tmp_path, lambda *p: seen.append(p), net.download) == len(NAMES)
    assert seen == [(i, 44) for i in range(1, 45)]
    assert all((tmp_path / "mitdb" / n).read_bytes() == net.files[n] for n in NAMES)
    net.asked.clear()
    assert fetch.fetch_mitdb(tmp_path, lambda *p: None, net.download) == 0
    assert net.asked == []


def test_what_was_cut_goes_on_and_what_was_damaged_comes_afresh(tmp_path: Path) -> None:
    net = FakePhysioNet()
    fetch.fetch_mitdb(tmp_path, lambda *p: None, net.download)
    cut, bad = tmp_path / "mitdb" / "100.dat", tmp_path / "mitdb" / "232.atr"
    cut.write_bytes(cut.read_bytes()[:7])
    bad.write_bytes(b"X" + bad.read_bytes()[1:])
    net.asked.clear()
    assert fetch.fetch_mitdb(tmp_path, lambda *p: None, net.download) == 2
    assert net.asked == [("100.dat", False), ("232.atr", False), ("232.atr", True)]
    assert bad.read_bytes() == net.files["232.atr"]


def test_the_noise_of_the_stress_test_is_fetched_into_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(nstdb, "load", lambda root, name: read.append(f"{root.name}/{name}"))
    net = FakePhysioNet()
    assert fetch.fetch_nstdb(tmp_path, lambda *p: None, net.download) == len(NOISE)
    assert {f.name for f in (tmp_path / "nstdb").iterdir()} == {*NOISE, fetch.SUMS}
    assert read == [f"{tmp_path.name}/{name}" for name in ("bw", "em", "ma")]
    assert fetch.fetch_nstdb(tmp_path, lambda *p: None, net.download) == 0


def test_a_file_that_stays_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"105\.dat: SHA-256"):
        fetch.fetch_mitdb(tmp_path, lambda *p: None, FakePhysioNet(damaged=["105.dat"]).download)


def test_a_list_of_sums_without_a_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"names no 100\.hea"):
        fetch.fetch_mitdb(tmp_path, lambda *p: None, FakePhysioNet(damaged=[fetch.SUMS]).download)


def test_without_a_network_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wfdb

    def unreachable(*args: object, **kwargs: object) -> None:
        print("Downloading files...")  # noqa: T201 - as wfdb does
        raise ConnectionError("Name or service not known\nand more")

    monkeypatch.setattr(wfdb, "dl_files", unreachable)
    for get, name in ((fetch.fetch_mitdb, "mitdb"), (fetch.fetch_nstdb, "nstdb")):
        with pytest.raises(
            SourceError, match=rf"of {name} cannot.*physionet\.org.*Name or service.*check network"
        ) as caught:
            get(tmp_path, lambda *p: None)
        assert "\n" not in str(caught.value)


def test_a_root_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="file/mitdb: cannot be made"):
        fetch.fetch_mitdb(tmp_path / "file", lambda *p: None, FakePhysioNet().download)
