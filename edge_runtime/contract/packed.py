"""Whole numbers as text, as they travel in a report: base64 of zlib of little-endian integers."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_runtime.contract.errors import ReportError

IntArray = NDArray[np.int64]
CONFIDENCE_STEPS = 10_000  # confidences travel as whole ten-thousandths, as they are printed


def pack(values: ArrayLike, dtype: str) -> str:
    """Whole numbers as base64 of zlib of `dtype`, such as "<u4"; raises ValueError if one does not fit."""
    whole = np.asarray(values, np.int64).reshape(-1)
    limits = np.iinfo(dtype)
    if len(whole) and (whole.min() < limits.min or whole.max() > limits.max):
        raise ValueError(f"values from {whole.min()} to {whole.max()} do not fit {dtype}")
    return base64.b64encode(zlib.compress(whole.astype(dtype).tobytes(), 9)).decode("ascii")


def unpack(text: str, dtype: str, what: str) -> IntArray:
    """Whole numbers from `pack`, int64 (n,); raises ReportError naming `what` if the text is damaged."""
    try:
        raw = zlib.decompress(base64.b64decode(text, validate=True))
        return np.frombuffer(raw, dtype).astype(np.int64)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ReportError(f"{what}: damaged ({error})") from error


def pack_confidences(confidences: Iterable[float | None]) -> str:
    """Confidences from 0 to 1 as ten-thousandths in uint16; one that is not there as 0."""
    return pack([round((c or 0.0) * CONFIDENCE_STEPS) for c in confidences], "<u2")


def unpack_confidences(text: str, what: str) -> NDArray[np.float64]:
    """Confidences from `pack_confidences`, float64 (n,); raises ReportError naming `what` if the text is damaged."""
    return unpack(text, "<u2", what) / CONFIDENCE_STEPS
