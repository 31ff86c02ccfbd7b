"""An experiment as one TOML file: data, teacher, student, distillation, pruning, quantization."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge_runtime.contract.beats import BeatTiming
from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.preprocess import Conditioning
from edge_runtime.contract.strict import build
from host_tools.compress.distill import Distillation
from host_tools.compress.quantize import Calibration
from host_tools.data.examples import Sampling
from host_tools.nets.beats import BeatNetShape
from host_tools.training import Schedule

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class DataPart:
    """Records and how they are multiplied.

    hold_out       validation: train without the validation records and test on them;
                   test: train on both and test on the test records
    stretches      each record is also played at these speeds
    atrial         further copies of each record with artificial premature atrial beats
    calibration_s  seconds of each training record that choose the INT8 scales
    """

    set: Literal["mitdb", "simulated"] = "mitdb"
    hold_out: Literal["validation", "test"] = "test"
    stretches: tuple[float, ...] = (0.93, 1.0, 1.07)
    atrial: int = 1
    calibration_s: float = 120.0


@dataclass(frozen=True, kw_only=True)
class TeacherPart:
    """An ensemble of wide networks: one teacher per seed."""

    shape: BeatNetShape = field(default_factory=lambda: BeatNetShape(channels=128, is_residual=False))
    seeds: tuple[int, ...] = (0,)
    schedule: Schedule = field(default_factory=Schedule)
    sampling: Sampling = field(default_factory=Sampling)
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class StudentPart:
    """One student per seed, with and without the teachers; the first seed's is shipped."""

    shape: BeatNetShape = field(default_factory=BeatNetShape)
    seeds: tuple[int, ...] = (0,)
    schedule: Schedule = field(default_factory=Schedule)
    sampling: Sampling = field(default_factory=Sampling)
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class PrunePart:
    """Channels to keep, and the distilled fine-tuning afterwards."""

    channels: int = 36
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=400, learning_rate=1e-3))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One experiment."""

    schema: int
    name: str
    data: DataPart = field(default_factory=DataPart)
    conditioning: Conditioning = field(default_factory=Conditioning)
    timing: BeatTiming = field(default_factory=BeatTiming)
    teacher: TeacherPart = field(default_factory=TeacherPart)
    student: StudentPart = field(default_factory=StudentPart)
    distill: Distillation = field(default_factory=Distillation)
    prune: PrunePart = field(default_factory=PrunePart)
    quantize: Calibration = field(default_factory=Calibration)
    threshold: float = 0.5


def load_recipe(path: Path) -> tuple[Recipe, str]:
    """The recipe and the sha256 of its text; raises SettingsError naming the key that is wrong."""
    try:
        raw = path.read_bytes()
        value = tomllib.loads(raw.decode())
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); a recipe (TOML) wanted") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML ({error})") from error
    schema = value.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise SettingsError(f"{path}: schema is {schema}; this program reads up to {SCHEMA}, so update it")
    return build(Recipe, value, str(path), SettingsError), hashlib.sha256(raw).hexdigest()
