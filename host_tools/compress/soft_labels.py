"""What teachers said about training examples, once and for all: kept in a file, and refused for other examples.

A file (.npz) holds `logits` float32 (teachers, n, classes), `inputs_sha256`, `said_by` and `schema`. Logits of each
teacher are kept rather than their mean, because an ensemble softens before it averages.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array
from host_tools.measure.logits import network_logits

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Where soft labels are kept, and which teachers' (any text that tells them from others)."""

    path: Path
    said_by: str


def kept_soft_labels(teachers: Sequence[nn.Module], inputs: Float32Array, n_classes: int, keep: Keep) -> Float32Array:
    """Soft labels from the file; the teachers are asked, and the file written, where it is not theirs."""
    if not keep.path.is_file() or _said_by(keep.path) != keep.said_by:
        write_soft_labels(keep.path, soft_labels_of(teachers, inputs), inputs, keep.said_by)
    return read_soft_labels(keep.path, inputs, n_classes)


def _said_by(path: Path) -> str:
    """Whose a file is; nobody's if it cannot be read."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return str(kept["said_by"])
    except (OSError, KeyError, ValueError, TypeError, EOFError, AttributeError, zipfile.BadZipFile):
        return ""


def soft_labels_of(teachers: Sequence[nn.Module], inputs: Float32Array) -> Float32Array:
    """Logits float32 (teachers, n, classes) of inputs as they are."""
    return np.stack([network_logits(t, inputs) for t in teachers])


def inputs_sha256(inputs: Float32Array) -> str:
    """Hexadecimal hash of values, order and shape."""
    digest = hashlib.sha256(f"{inputs.dtype} {inputs.shape} ".encode())
    digest.update(np.ascontiguousarray(inputs).tobytes())
    return digest.hexdigest()


def write_soft_labels(path: Path, logits: Float32Array, inputs: Float32Array, said_by: str = "") -> None:
    """Keep what was said about `inputs`; raises SettingsError for logits that are not theirs."""
    if logits.ndim != 3 or logits.shape[1] != len(inputs):
        raise SettingsError(f"{path}: logits are {logits.shape}; (teachers, {len(inputs)}, classes) wanted")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    with draft.open("wb") as file:
        np.savez(
            file,
            logits=logits.astype(np.float32),
            inputs_sha256=inputs_sha256(inputs),
            said_by=said_by,
            schema=SCHEMA,
        )
    os.replace(draft, path)


def read_soft_labels(path: Path, inputs: Float32Array, n_classes: int) -> Float32Array:
    """Logits (teachers, n, classes); raises SettingsError if the file is damaged or was made for something else."""
    try:
        # Opened here, since numpy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            schema, logits, found = int(kept["schema"]), kept["logits"], str(kept["inputs_sha256"])
    except OSError as error:
        reason = error.strerror or "damaged"
        raise SettingsError(f"{path}: cannot be read ({reason}); soft labels (.npz) wanted") from error
    except (KeyError, ValueError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise SettingsError(f"{path}: no soft labels ({error}); an .npz of write_soft_labels wanted") from error
    if schema > SCHEMA:
        raise SettingsError(f"{path}: schema is {schema}; this program reads up to {SCHEMA}, so update it")
    wanted = inputs_sha256(inputs)
    if found != wanted:
        raise SettingsError(f"{path}: made for inputs {found[:12]}...; these are {wanted[:12]}...")
    if logits.ndim != 3 or logits.shape[1:] != (len(inputs), n_classes):
        raise SettingsError(f"{path}: logits are {logits.shape}; (teachers, {len(inputs)}, {n_classes}) wanted")
    return np.asarray(logits, np.float32)
