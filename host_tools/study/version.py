"""Which version of a study a report is of: a hash of what its TOML says, and of nothing that it leaves to defaults.

So a key that a later program knows besides changes no hash. A default that is written out is the same version as one
that is not; the tables of steps and options are taken as they are written.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from host_tools.study.plan import Study


def study_sha256(study: Study) -> str:
    """Hexadecimal hash of the study's values that are no defaults."""
    text = json.dumps(said(study), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def is_version_of(found: str, study: Study) -> bool:
    """Whether a report with the hash `found` is of this very study.

    Reports of before hold a hash of every key, defaults included; they are known as long as no key was added.
    """
    return found in (study_sha256(study), hashlib.sha256(repr(study).encode()).hexdigest())


def said(value: Any) -> Any:
    """Dataclasses as tables without the fields that are as by default, sequences as lists."""
    if is_dataclass(value):
        given = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
        defaults = {f.name: _default(f) for f in fields(value) if f.init}
        return {k: said(v) for k, v in given.items() if defaults[k] is MISSING or v != defaults[k]}
    if isinstance(value, dict):
        return {str(k): said(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [said(v) for v in value]
    return value


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
