"""The signal files of a PhysioNet record: bytes -> samples, in each of the forms of signal(5) but the compressed ones.

WFDB Applications Guide, signal(5): the numbers of the formats are its own. A file holds frame after frame, and a
frame the samples of each signal in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.errors import SourceError, one_line
from edge_runtime.sensors.wfdb_header import Header, Signal


@dataclass(frozen=True, kw_only=True)
class Format:
    """`samples` samples lie in `n_bytes` bytes.

    decode         uint8 (groups * n_bytes,) -> integers (groups * samples,)
    invalid        the number of a sample that is not there, or None
    word           bytes that only mean something together, where a last group is not whole
    is_difference  whether numbers are differences to the sample before
    """

    n_bytes: int
    decode: Callable[[np.ndarray], np.ndarray]
    invalid: int | None
    samples: int = 1
    word: int = 1
    is_difference: bool = False

    def samples_in(self, n_bytes: int) -> int:
        """Samples in the first `n_bytes` of a file."""
        return n_bytes // self.word * self.word * self.samples // self.n_bytes


def samples_of(header: Header, index: int) -> tuple[np.ndarray, int | None]:
    """All samples of one signal as integers (n,), and the number that marks one that is not there.

    Reads the file that holds it, and compares the checksums of all signals in that file.
    Raises SourceError naming the file if it is missing, too short, damaged, or in a form not known here.
    """
    file = header.signals[index].file
    places = [i for i, signal in enumerate(header.signals) if signal.file == file]
    together = header.signals[places[0] : places[-1] + 1]
    if len({(s.file, s.format, s.offset) for s in together}) > 1:
        raise SourceError(f"{header.path}: the signals in {file} differ in format or offset, or others are between")
    path, number = header.path.with_name(file), together[0].format
    if number not in FORMATS:
        known = ", ".join(str(n) for n in FORMATS)
        raise SourceError(f"{path}: is in format {number}; formats known here are {known}")
    frames = _frames(path, FORMATS[number], together, header.n_frames)
    begin, found = 0, np.empty(0)
    for i, signal in enumerate(together, places[0]):
        samples = frames[:, begin : begin + signal.per_frame].reshape(-1)
        begin += signal.per_frame
        if FORMATS[number].is_difference:
            samples = np.cumsum(samples, dtype=np.int64) + signal.initial
        checksum = int(samples.sum(dtype=np.int64)) & 0xFFFF
        if header.n_frames is not None and signal.checksum not in (None, checksum):
            raise SourceError(
                f"{path}: the checksum of {signal.name} is {checksum}; {header.path.name} says {signal.checksum}"
            )
        if i == index:
            found = np.ascontiguousarray(samples)  # the other signals are not kept
    return found, FORMATS[number].invalid


def _frames(path: Path, form: Format, signals: tuple[Signal, ...], n_frames: int | None) -> np.ndarray:
    """A file's numbers (frames, samples of all signals)."""
    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    offset, width = signals[0].offset, sum(s.per_frame for s in signals)
    try:
        there = form.samples_in(max(0, path.stat().st_size - offset)) // width
        wanted = there if n_frames is None else n_frames
        if there < wanted or wanted == 0:
            raise SourceError(f"{path}: {there} frames of samples; the header says {n_frames or 'one or more'}")
        n_bytes = -(-wanted * width // form.samples) * form.n_bytes
        raw = np.fromfile(path, np.uint8, n_bytes, offset=offset)
    except OSError as error:
        raise SourceError(one_line(error)) from error
    whole = np.concatenate([raw, np.zeros(n_bytes - len(raw), np.uint8)]) if len(raw) < n_bytes else raw
    return form.decode(whole)[: wanted * width].reshape(wanted, width)


def _three_bytes(raw: np.ndarray) -> np.ndarray:
    words = np.zeros((len(raw) // 3, 4), np.uint8)
    words[:, 1:] = raw.reshape(-1, 3)
    return words.view("<i4").reshape(-1) >> 8


def _twelve_bits(raw: np.ndarray) -> np.ndarray:
    """Low byte of the first, the high four bits of both, low byte of the second."""
    first, both, second = raw.reshape(-1, 3).T
    high = both.astype(np.int16)
    out = np.empty((len(first), 2), np.int16)
    out[:, 0] = (high << 12 >> 4) | first
    out[:, 1] = (high >> 4 << 12 >> 4) | second
    return out.reshape(-1)


def _ten_bits_in_pairs(raw: np.ndarray) -> np.ndarray:
    """Two words of a spare bit, a sample and five bits of the third, of which the lower come first."""
    words = raw.view("<u2").reshape(-1, 2)
    out = np.empty((len(words), 3), np.int16)
    out[:, :2] = (words << 5).view("<i2") >> 6
    high = words >> 11
    out[:, 2] = ((high[:, 0] | high[:, 1] << 5) << 6).view("<i2") >> 6
    return out.reshape(-1)


def _ten_bits_in_a_row(raw: np.ndarray) -> np.ndarray:
    """One word of three samples and two spare bits."""
    words = raw.view("<i4")
    return np.stack([words << left >> 22 for left in (22, 12, 2)], axis=1).reshape(-1)


FORMATS = {
    8: Format(n_bytes=1, decode=lambda raw: raw.view(np.int8), invalid=None, is_difference=True),
    16: Format(n_bytes=2, decode=lambda raw: raw.view("<i2"), invalid=-(2**15)),
    24: Format(n_bytes=3, decode=_three_bytes, invalid=-(2**23)),
    32: Format(n_bytes=4, decode=lambda raw: raw.view("<i4"), invalid=-(2**31)),
    61: Format(n_bytes=2, decode=lambda raw: raw.view(">i2"), invalid=-(2**15)),
    80: Format(n_bytes=1, decode=lambda raw: (raw ^ 0x80).view(np.int8), invalid=-(2**7)),
    160: Format(n_bytes=2, decode=lambda raw: (raw.view("<u2") ^ 0x8000).view("<i2"), invalid=-(2**15)),
    212: Format(samples=2, n_bytes=3, decode=_twelve_bits, invalid=-(2**11)),
    310: Format(samples=3, n_bytes=4, word=2, decode=_ten_bits_in_pairs, invalid=-(2**9)),
    311: Format(samples=3, n_bytes=4, decode=_ten_bits_in_a_row, invalid=-(2**9)),
}
