"""Download MIT-BIH and its noise from PhysioNet, on request only; interrupted downloads go on where they stopped."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from edge_runtime.contract.errors import SourceError
from host_tools.data import mitdb, nstdb

SUMS = "SHA256SUMS.txt"
Download = Callable[[Sequence[str], Path, bool], None]


def fetch_mitdb(root: Path, progress: Callable[[int, int], None], download: Download | None = None) -> int:
    """Make `root/mitdb` hold every record of the task, each file checked against PhysioNet's SHA-256.

    progress  told (records done, records in all) after each record
    download  (files, folder, overwrite); PhysioNet through wfdb where None
    returns   how many files were downloaded; whole files are left alone
    Raises SourceError without a network, without room, or when a file stays damaged.
    """
    records = {r: ("hea", "dat", "atr") for r in sorted(mitdb.DS1 + mitdb.DS2)}
    return _fetch(root / "mitdb", records, mitdb.load, progress, download)


def fetch_nstdb(root: Path, progress: Callable[[int, int], None], download: Download | None = None) -> int:
    """Make `root/nstdb` hold the three noise records of the noise stress test; otherwise as `fetch_mitdb`."""
    return _fetch(root / "nstdb", dict.fromkeys(nstdb.NAMES, ("hea", "dat")), nstdb.load, progress, download)


def _fetch(
    folder: Path,
    records: Mapping[str, Sequence[str]],
    load: Callable[[Path, str], object],
    progress: Callable[[int, int], None],
    download: Download | None,
) -> int:
    """Complete a set: record names with the suffixes of their files, and what reads a record to check it."""
    download = download or partial(_from_physionet, folder.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SourceError(f"{folder}: cannot be made ({error.strerror})") from error
    if not (folder / SUMS).is_file():
        download([SUMS], folder, False)
    sums = _read_sums(folder / SUMS)
    n_downloaded = 0
    for done, (record, suffixes) in enumerate(records.items(), start=1):
        files = [f"{record}.{suffix}" for suffix in suffixes]
        lacking = [f for f in files if not _is_whole(folder / f, sums)]
        if lacking:
            _complete(lacking, folder, sums, download)
            load(folder.parent, record)
            n_downloaded += len(lacking)
        progress(done, len(records))
    return n_downloaded


def _complete(files: list[str], folder: Path, sums: dict[str, str], download: Download) -> None:
    """Go on with what is there; what is still not whole then is downloaded afresh, once."""
    for overwrite in (False, True):
        download(files, folder, overwrite)
        files = [f for f in files if not _is_whole(folder / f, sums)]
        if not files:
            return
    raise SourceError(f"{folder / files[0]}: SHA-256 is not the one in {SUMS}; delete both and fetch again")


def _read_sums(path: Path) -> dict[str, str]:
    sums = {}
    for line in path.read_text(errors="replace").splitlines():
        digest, _, name = line.partition(" ")
        sums[name.strip(" *")] = digest
    return sums


def _is_whole(path: Path, sums: dict[str, str]) -> bool:
    if path.name not in sums:
        raise SourceError(f"{path.parent / SUMS}: names no {path.name}; delete it and fetch again")
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sums[path.name]


def _from_physionet(name: str, files: Sequence[str], folder: Path, overwrite: bool) -> None:
    import wfdb

    try:
        with contextlib.redirect_stdout(io.StringIO()):  # wfdb prints; stdout is for results
            wfdb.dl_files(name, str(folder), list(files), overwrite=overwrite)
    except Exception as error:
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(
            f"{files[0]} of {name} cannot be downloaded from physionet.org to {folder} ({found}); "
            "check network and room, then fetch again: it goes on where it stopped"
        ) from error
