"""The bench on a target: labelled records there as plain arrays, the device's report back."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from edge_runtime.bench import RECORDS, RECORDS_SCHEMA, StoredRecord, StoredRecords
from edge_runtime.contract.errors import EdgeError
from edge_runtime.contract.report import BenchReport, from_json
from host_tools.data.records import EcgRecord
from host_tools.measure.windows import WindowRecord
from host_tools.ship.device import Device

MICROVOLT = 0.001  # mV
Progress = Callable[[str, int, int], None]
Records = Sequence[EcgRecord] | Sequence[WindowRecord]


def store_records(records: Records, folder: Path) -> None:
    """Write records and `records.json`; labels stay on the host.

    Of an ECG the first lead travels as int16 microvolts; samples of windows travel as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for record in records:
        values, entry = _stored_ecg(record) if isinstance(record, EcgRecord) else _stored_windows(record)
        np.save(folder / entry.file, values)
        entries.append(entry)
    stored = StoredRecords(schema=RECORDS_SCHEMA, simulated=any(r.simulated for r in records), records=tuple(entries))
    (folder / RECORDS).write_text(json.dumps(asdict(stored)))


def _stored_ecg(record: EcgRecord) -> tuple[np.ndarray, StoredRecord]:
    return microvolts(record), StoredRecord(
        name=record.name,
        file=f"{record.name}.npy",
        rate_hz=record.rate_hz,
        scale=MICROVOLT,
        unit="mV",
        channels=record.lead_names[:1],
    )


def _stored_windows(record: WindowRecord) -> tuple[np.ndarray, StoredRecord]:
    return record.samples, StoredRecord(
        name=record.name,
        file=f"{record.name}.npy",
        rate_hz=record.rate_hz,
        scale=1.0,
        unit=record.unit,
        channels=record.channels,
    )


def microvolts(record: EcgRecord) -> np.ndarray:
    """The lead the student sees, int16 (n,)."""
    return np.asarray(np.clip(np.rint(record.leads[:, 0] / MICROVOLT), -32768, 32767), np.int16)


def bench_here(bundle: Path, records: Records, *, threads: int = 1) -> BenchReport:
    """Measure on this machine with this installation, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="vitaledge-bench-") as folder:
        store_records(records, Path(folder))
        out = Path(folder) / "report.json"
        command = [sys.executable, "-m", "edge_runtime", "bench", str(bundle), folder, "--out", str(out)]
        done = subprocess.run([*command, "--threads", str(threads)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise EdgeError(f"bench on this machine failed: {_last_line(done.stderr)}")
        return from_json(out.read_text(), "bench on this machine")


def bench_on(
    device: Device,
    records: Records,
    *,
    threads: int = 1,
    progress: Progress = lambda text, done, total: None,
) -> BenchReport:
    """Measure the target's current release there, with the root locked.

    Records that it already holds are not sent again; these stay there afterwards, those of other benches go.
    """
    with device.locked(), tempfile.TemporaryDirectory(prefix="vitaledge-bench-") as folder:
        store_records(records, Path(folder))
        files = sorted(Path(folder).iterdir())
        key = hashlib.sha256(b"".join(hashlib.sha256(f.read_bytes()).digest() for f in files)).hexdigest()[:12]
        for i, file in enumerate(files):
            device.put(file, f"work/records-{key}/{file.name}")
            progress(f"sending {file.name}", i + 1, len(files))
        report = f"work/report-{key}.json"
        progress("measuring on the device", 0, 1)
        arguments = [device.path("current"), device.path(f"work/records-{key}"), "--out", device.path(report)]
        done = device.edge_runtime(["bench", *arguments, "--threads", str(threads)])
        if done.rc != 0:
            raise EdgeError(f"{device.name}: bench failed there: {_last_line(done.last_words)}")
        progress("measuring on the device", 1, 1)
        brought = device.get(report).decode()
        device.verb("forget", root=device.root, key=key)
    return from_json(brought, f"{device.name}: report")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
