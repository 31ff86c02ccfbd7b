"""An experiment as one TOML file: data, teacher, student, distillation, pruning, quantization."""

from __future__ import annotations

import hashlib
import re
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
from host_tools.export.pack import HOP_SAMPLES
from host_tools.nets.beats import BeatNetShape
from host_tools.training import Schedule

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = 1
RECIPES = Path(__file__).resolve().parent / "recipes"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class DataPart:
    """Records and how they are multiplied.

    hold_out       validation: train without the validation records and test on them;
                   test: train on both and test on the test records
    stretches      each record is also played at these speeds
    atrial         further copies of each record with artificial premature atrial beats
    calibration_s  seconds of each training record that choose the INT8 scales
    noise          share of training chunks with recorded noise (the first half of nstdb's records) on them
    """

    set: Literal["mitdb", "simulated"] = "mitdb"
    hold_out: Literal["validation", "test"] = "test"
    stretches: tuple[float, ...] = (0.93, 1.0, 1.07)
    atrial: int = 1
    calibration_s: float = 120.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what would leave nothing to learn from."""
        if not self.stretches or not all(0.5 <= s <= 2.0 for s in self.stretches):
            raise SettingsError(f"data.stretches is {list(self.stretches)}; one or more speeds of 0.5 to 2 wanted")
        if self.atrial < 0 or not self.calibration_s > 0:
            raise SettingsError(
                f"data.atrial is {self.atrial} and data.calibration_s {self.calibration_s:g}; "
                "0 or more and more than 0 wanted"
            )
        if not 0.0 <= self.noise <= 1.0:
            raise SettingsError(f"data.noise is {self.noise:g}; a share of 0 to 1 wanted")


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

    def __post_init__(self) -> None:
        """Refuse parts that do not fit each other, before anything is trained."""
        if not NAME.fullmatch(self.name):
            raise SettingsError(f"name is {self.name!r}; letters, digits, '.', '_' and '-' wanted")
        if self.conditioning.rate_hz != self.timing.rate_hz:
            raise SettingsError(
                f"conditioning.rate_hz is {self.conditioning.rate_hz}, timing.rate_hz {self.timing.rate_hz}; "
                "the same rate wanted"
            )
        if HOP_SAMPLES % self.timing.stride:
            raise SettingsError(f"timing.stride is {self.timing.stride}; a divisor of the hop, {HOP_SAMPLES}, wanted")
        if not self.teacher.seeds or not self.student.seeds:
            raise SettingsError("teacher.seeds and student.seeds: at least one seed each wanted")
        if not 0.0 < self.threshold < 1.0:
            raise SettingsError(f"threshold is {self.threshold:g}; between 0 and 1 wanted")
        if not 1 <= self.prune.channels <= self.student.shape.channels:
            raise SettingsError(
                f"prune.channels is {self.prune.channels}; 1 to the student's {self.student.shape.channels} wanted"
            )


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
