"""MIT-BIH Arrhythmia Database: records through wfdb, AAMI classes, de Chazal's inter-patient split.

Source: Moody and Mark, IEEE Eng Med Biol 20(3), 2001, doi 10.13026/C2F305; split and paced records left out:
de Chazal, O'Dwyer and Reilly, IEEE Trans Biomed Eng 51(7), 2004.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_runtime.contract.errors import SourceError
from host_tools.data.records import EcgRecord, Split

DS1 = tuple(
    [
        "101",
        "106",
        "108",
        "109",
        "112",
        "114",
        "115",
        "116",
        "118",
        "119",
        "122",
        "124",
        "201",
        "203",
        "205",
        "207",
        "208",
        "209",
        "215",
        "220",
        "223",
        "230",
    ]
)
DS2 = tuple(
    [
        "100",
        "103",
        "105",
        "111",
        "113",
        "117",
        "121",
        "123",
        "200",
        "202",
        "210",
        "212",
        "213",
        "214",
        "219",
        "221",
        "222",
        "228",
        "231",
        "232",
        "233",
        "234",
    ]
)
# Held out of DS1 for choosing between models: every AAMI class occurs on both sides.
VALIDATION = tuple(["114", "118", "124", "203", "205", "223"])
# 202 is the same person as 201, which is in DS1.
SAME_PERSON_AS_TRAINING = ("202",)

# ANSI/AAMI EC57: symbol of the annotation -> index into AAMI_CLASSES. All other symbols are no beats.
AAMI_OF_SYMBOL = {
    **dict.fromkeys("NLRej", 0),
    **dict.fromkeys("AaJS", 1),
    **dict.fromkeys("VE", 2),
    "F": 3,
    **dict.fromkeys("/fQ", 4),
}
STUDENT_LEAD = "MLII"


def split() -> Split:
    """DS1 without the validation records, the validation records, DS2 with record 202 apart."""
    return Split(
        train=tuple(r for r in DS1 if r not in VALIDATION),
        validation=VALIDATION,
        test=tuple(r for r in DS2 if r not in SAME_PERSON_AS_TRAINING),
        apart=SAME_PERSON_AS_TRAINING,
    )


def load(root: Path, name: str) -> EcgRecord:
    """One record with MLII in column 0 and the other lead in column 1.

    root  the data root; records lie in `root/mitdb`
    Raises SourceError naming the file if it is missing, damaged or has no MLII lead.
    """
    import wfdb

    stem = root / "mitdb" / name
    for suffix in (".hea", ".dat", ".atr"):
        if not stem.with_suffix(suffix).is_file():
            raise SourceError(
                f"{stem.with_suffix(suffix)}: no such file; set VITALEDGE_DATA to the folder that holds mitdb/, "
                "or run `vitaledge data fetch mitdb`"
            )
    try:
        record = wfdb.rdrecord(str(stem), physical=False)
        notes = wfdb.rdann(str(stem), "atr")
    except Exception as error:
        raise SourceError(f"{stem}: cannot be read as a WFDB record ({error})") from error
    _check(record, stem)
    order = [record.sig_name.index(STUDENT_LEAD)]
    order += [i for i in range(record.n_sig) if i != order[0]][:1]
    gain, zero = np.asarray(record.adc_gain)[order], np.asarray(record.baseline)[order]
    leads = ((record.d_signal[:, order] - zero) / gain).astype(np.float32)
    is_beat = np.array([s in AAMI_OF_SYMBOL for s in notes.symbol])
    classes = np.array([AAMI_OF_SYMBOL[s] for s in notes.symbol if s in AAMI_OF_SYMBOL], np.int64)
    return EcgRecord(
        name=name,
        rate_hz=float(record.fs),
        lead_names=tuple(record.sig_name[i] for i in order),
        leads=leads,
        beat_samples=np.asarray(notes.sample, np.int64)[is_beat],
        beat_classes=classes,
        masked=_flutter(notes, len(leads)),
    )


def _check(record: object, stem: Path) -> None:
    """Compare what was read with the header's own length, checksums and lead names."""
    signal = record.d_signal  # type: ignore[attr-defined]
    length, names = record.sig_len, record.sig_name  # type: ignore[attr-defined]
    if len(signal) != length:
        raise SourceError(f"{stem}.dat: {len(signal)} samples; the header says {length}")
    found = (signal.astype(np.int64).sum(axis=0) & 0xFFFF).tolist()
    wanted = [c & 0xFFFF for c in record.checksum]  # type: ignore[attr-defined]
    if found != wanted:
        raise SourceError(f"{stem}.dat: checksums are {found}; the header says {wanted}")
    if STUDENT_LEAD not in names:
        raise SourceError(f"{stem}.hea: leads are {names}; {STUDENT_LEAD} wanted")


def _flutter(notes: object, n: int) -> np.ndarray:
    """Ventricular flutter, from annotation `[` to `]`: it has no separate beats. int64 (spans, 2)."""
    spans, start = [], None
    for sample, symbol in zip(notes.sample, notes.symbol, strict=True):  # type: ignore[attr-defined]
        if symbol == "[":
            start = int(sample)
        elif symbol == "]" and start is not None:
            spans.append((start, int(sample)))
            start = None
    if start is not None:
        spans.append((start, n))
    return np.array(spans, np.int64).reshape(-1, 2)
