"""Which form of a bundle runs here, on which engine: what was asked for, what was measured before, what there is."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from edge_runtime.assemble import open_engine
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.errors import EngineError, SettingsError
from edge_runtime.contract.manifest import EngineName, Form, Precision
from edge_runtime.contract.strict import build
from edge_runtime.engine.engine import Engine

log = logging.getLogger(__name__)

EngineWish = Literal["auto", "onnxruntime", "litert"]
CHOICE_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was measured to be best for one bundle on one device, and why.

    version, cpu  of the engine and the device it was measured on: it holds for no others
    """

    schema: int
    bundle: str
    engine: EngineName
    precision: Precision
    version: str
    cpu: str
    why: str
    made: str


def open_form(
    bundle: Bundle,
    engine: EngineWish = "auto",
    precision: Precision | None = None,
    threads: int = 1,
    cache: Path | None = None,
    *,
    provider: str = "cpu",
    allow_fallback: bool = False,
) -> tuple[Bundle, Engine]:
    """The bundle in the form to run, and its engine.

    engine     "auto" takes what `edge-runtime check --choose` found best here, else the first that is installed
    precision  None: the bundle's first of that engine
    cache      where choices and optimized graphs are kept; None is this user's cache folder
    provider   what shall run it, see `open_engine`; any but the CPU is ONNX Runtime's
    Raises SettingsError for a form that the bundle does not have, EngineError if no engine for it is installed.
    """
    cache = cache or cache_folder()
    if engine == "auto" and provider != "cpu":
        engine = "onnxruntime"
    forms = forms_of(bundle, engine, precision)
    if engine == "auto" and precision is None and len(forms) > 1:
        chosen = _remembered(bundle, threads, cache)
        if chosen is not None:
            return chosen
    missing: EngineError | None = None
    for form in forms:
        try:
            opened = open_engine(threads, form.engine, provider=provider, allow_fallback=allow_fallback, cache=cache)
            return bundle.in_form(form), opened
        except EngineError as error:
            missing = missing or error
    assert missing is not None
    raise missing


def forms_of(bundle: Bundle, engine: EngineWish = "auto", precision: Precision | None = None) -> tuple[Form, ...]:
    """The bundle's forms that are as asked for; raises SettingsError naming those that exist if there is none."""
    every = bundle.manifest.all_forms
    forms = tuple(f for f in every if engine in ("auto", f.engine) and precision in (None, f.precision))
    if not forms:
        asked = " ".join(w for w in (None if engine == "auto" else engine, precision) if w)
        raise SettingsError(f"{bundle.path}: no form is {asked}; forms are {', '.join(f.name for f in every)}")
    return forms


def remember(bundle: Bundle, form: Form, version: str, why: str, cache: Path | None = None) -> Path:
    """Write a choice down; raises OSError if the cache folder cannot be written."""
    choice = Choice(
        schema=CHOICE_SCHEMA,
        bundle=bundle.id,
        engine=form.engine,
        precision=form.precision,
        version=version,
        cpu=_cpu(),
        why=why,
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    place = _place(bundle, cache or cache_folder())
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(asdict(choice), indent=1) + "\n")
    os.replace(draft, place)
    return place


def cache_folder() -> Path:
    """VITALEDGE_CACHE, else vitaledge in XDG_CACHE_HOME, else in ~/.cache."""
    own = os.environ.get("VITALEDGE_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vitaledge"


def read_choice(bundle: Bundle, cache: Path | None = None) -> Choice | None:
    """What was remembered of this bundle on this device; None if nothing, or of another device."""
    place = _place(bundle, cache or cache_folder())
    try:
        choice = build(Choice, json.loads(place.read_text()), str(place), SettingsError)
    except (OSError, ValueError):
        return None
    except SettingsError as error:
        log.warning("%s; choose again with `edge-runtime check BUNDLE --choose`", error)
        return None
    return choice if choice.bundle == bundle.id and choice.cpu == _cpu() else None


def _remembered(bundle: Bundle, threads: int, cache: Path) -> tuple[Bundle, Engine] | None:
    choice = read_choice(bundle, cache)
    if choice is None:
        return None
    form = next(
        (f for f in bundle.manifest.all_forms if (f.engine, f.precision) == (choice.engine, choice.precision)), None
    )
    if form is None:
        return None
    try:
        engine = open_engine(threads, form.engine, cache=cache)
    except EngineError as error:
        log.warning("%s was measured to be best and is gone (%s)", form.name, error)
        return None
    if engine.version != choice.version:
        log.info("%s was chosen with version %s; %s is installed now", form.name, choice.version, engine.version)
        return None
    return bundle.in_form(form), engine


def _place(bundle: Bundle, cache: Path) -> Path:
    return cache / "choices" / f"{bundle.id}.json"


def _cpu() -> str:
    from edge_runtime import probes  # only where there is something to choose from

    return probes.machine().cpu or "unknown"
