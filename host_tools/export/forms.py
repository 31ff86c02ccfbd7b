"""A packed bundle with further forms of its model: for the other engine, or in another precision."""

from __future__ import annotations

import io
import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import onnx

from edge_runtime import golden
from edge_runtime.assemble import open_engine, open_pipeline
from edge_runtime.contract.bundle import MANIFEST, Bundle, file_sha256, open_bundle
from edge_runtime.contract.errors import EngineError, ParityError, SettingsError
from edge_runtime.contract.manifest import FIRST_ENGINE, FORMS_SCHEMA, Form, Graph, Manifest, WindowGolden, to_json
from edge_runtime.contract.signal import Float32Array, Frames, Reading
from host_tools.export.litert import to_litert
from host_tools.export.pack import put_in_place

log = logging.getLogger(__name__)

# Of the largest output, between two engines. Integers may differ by a quantum in every layer, so there only wrong
# scales, swapped channels and the like are caught.
FP32_TOLERANCE = 1e-4
MIN_INT8_SQNR_DB = 20.0
MIN_OTHER_PRECISION_SQNR_DB = 10.0
SIZES = ((1000,), (64, 3), (7,), (250, 1, 33))


@dataclass(frozen=True, kw_only=True)
class FurtherForm:
    """A form that a bundle does not have yet, and the content of its files by name."""

    form: Form
    files: dict[str, bytes]


@dataclass(frozen=True, kw_only=True)
class FormParity:
    """How far a form is from the bundle's own on the golden signal.

    worst           largest difference of an output, as a share of the largest output
    sqnr_db         signal to difference; None where there is no difference
    other_readings  readings of another class or place, of `readings`
    """

    form: str
    against: str
    worst: float
    sqnr_db: float | None
    other_readings: int
    readings: int

    def to_json(self) -> dict[str, object]:
        """As plain values."""
        return asdict(self)

    def to_text(self) -> str:
        """One line."""
        close = "equal" if self.sqnr_db is None else f"differs by at most {self.worst:.2g} of the largest output"
        return f"{self.form} against {self.against}: {close}; {self.other_readings} of {self.readings} readings differ"


@dataclass(frozen=True, kw_only=True)
class WithForms:
    """The bundle, and how well each further form agrees."""

    bundle: Bundle
    parities: tuple[FormParity, ...]

    def to_json(self) -> dict[str, object]:
        """As plain values."""
        return {
            "bundle": str(self.bundle.path),
            "bundle_id": self.bundle.id,
            "forms": [f.name for f in self.bundle.manifest.all_forms],
            "parity": [p.to_json() for p in self.parities],
        }

    def to_text(self) -> str:
        """A line for the bundle, one for each form."""
        names = ", ".join(f.name for f in self.bundle.manifest.all_forms)
        return "\n".join([f"{self.bundle.path}  ({self.bundle.id}): {names}", *(p.to_text() for p in self.parities)])


def litert_forms(bundle: Bundle) -> list[FurtherForm]:
    """LiteRT forms of all of a bundle's ONNX forms; raises SettingsError for an unknown operator."""
    made = []
    for form in bundle.manifest.all_forms:
        if form.engine != FIRST_ENGINE:
            continue
        written = [to_litert(onnx.load(bundle.file(g.file)), g) for g in form.graphs]
        graphs = tuple(w.graph for w in written)
        made.append(
            FurtherForm(
                form=Form(engine="litert", precision=form.precision, graphs=graphs),
                files={w.graph.file: w.data for w in written},
            )
        )
    return made


def with_litert(bundle: Bundle) -> Bundle:
    """The bundle with LiteRT files beside its ONNX files, in its own place.

    As it is, with a warning, where LiteRT is not installed or does not know an operator; raises ParityError.
    """
    try:
        return with_forms(bundle, litert_forms(bundle)).bundle
    except (EngineError, SettingsError) as error:
        log.warning("%s carries ONNX files alone: %s", bundle.path, error)
        return bundle


def form_of(other: Bundle) -> FurtherForm:
    """The form that another bundle shows, such as the same model before quantization; files that differ are renamed."""
    own = other.form or other.manifest.all_forms[0]
    name = {g.file: f"{own.precision}-{PurePosixPath(g.file).name}" for g in own.graphs}
    graphs: tuple[Graph, ...] = tuple(replace(g, file=name[g.file]) for g in own.graphs)
    return FurtherForm(
        form=replace(own, graphs=graphs), files={name[g.file]: other.file(g.file).read_bytes() for g in own.graphs}
    )


def with_forms(bundle: Bundle, further: Sequence[FurtherForm], destination: Path | None = None) -> WithForms:
    """Write the bundle with more forms, in its own place or another, only when all of it is complete and verified.

    A form that it has already is replaced; a signature is left out, for what it signed has changed.
    Without further forms it is copied, or left as it is. Raises ParityError if a form is another model, or gives
    other integers when its input is cut otherwise.
    """
    destination = destination or bundle.path
    if not further and destination == bundle.path:
        return WithForms(bundle=bundle, parities=())
    destination.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.parent))
    try:
        shutil.copytree(bundle.path, folder, dirs_exist_ok=True)
        (folder / f"{MANIFEST}.sig").unlink(missing_ok=True)
        m = _without(bundle.manifest, {f.form.name for f in further})
        for name in set(bundle.manifest.files) - set(m.files):
            (folder / name).unlink()
        files, n_kept = dict(m.files), len(m.forms)
        for new in further:
            for name, data in new.files.items():
                (folder / name).write_bytes(data)
                files[name] = file_sha256(folder / name)
        schema = FORMS_SCHEMA if further else m.schema
        m = replace(m, schema=schema, forms=(*m.forms, *(f.form for f in further)), files=files)
        draft = Bundle(path=folder, manifest=m, id="draft")
        stored = _stored(draft)
        parities = []
        for form in m.forms[n_kept:]:
            parities.append(_verified(draft, form))
            said = golden.answers(draft.in_form(form), open_engine(1, form.engine))
            stored |= {golden.stored_name(form, name): value for name, value in said.items()}
        np.savez_compressed(folder / m.golden.file, **stored)  # type: ignore[arg-type]
        files[m.golden.file] = file_sha256(folder / m.golden.file)
        (folder / MANIFEST).write_text(to_json(replace(m, files=files)))
        whole = open_bundle(folder)
        for form in whole.manifest.forms:
            if not golden.check(whole.in_form(form), open_engine(1, form.engine)).is_equal:
                raise ParityError(f"{form.name}: golden vectors are not answered equally by the engine that made them")
        folder.chmod(0o755)
        put_in_place(folder, destination)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return WithForms(bundle=open_bundle(destination), parities=tuple(parities))


def _without(m: Manifest, names: set[str]) -> Manifest:
    """The manifest without some of its further forms, and without the files that only they have."""
    kept = tuple(f for f in m.forms if f.name not in names)
    dropped = {g.file for f in m.forms for g in f.graphs} - {g.file for f in (m.all_forms[0], *kept) for g in f.graphs}
    return replace(m, forms=kept, files={name: sha for name, sha in m.files.items() if name not in dropped})


def _stored(bundle: Bundle) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(bundle.file(bundle.manifest.golden.file).read_bytes()), allow_pickle=False) as stored:
        return dict(stored)


def _verified(bundle: Bundle, form: Form) -> FormParity:
    """Compare a form with the bundle's own of its precision, else with its first, and with itself cut otherwise."""
    every = bundle.manifest.all_forms
    against = next((f for f in every if f.precision == form.precision and f.engine == FIRST_ENGINE), every[0])
    against = every[0] if against == form else against
    wanted, wanted_readings = _through(bundle, against, SIZES[0])
    given, readings = _through(bundle, form, SIZES[0])
    for sizes in SIZES[1:]:
        if not np.array_equal(_through(bundle, form, sizes)[0], given, equal_nan=True):
            raise ParityError(f"{form.name}: blocks of {sizes} give other outputs than blocks of {SIZES[0]}")
    if wanted.shape != given.shape:
        raise ParityError(f"{form.name} gives {given.shape}; {against.name} gives {wanted.shape}")
    size = max(float(np.abs(wanted).max()), 1e-12)
    error = float(((given - wanted) ** 2).sum())
    sqnr = None if error == 0.0 else float(10.0 * np.log10((wanted**2).sum() / error))
    worst = float(np.abs(given - wanted).max()) / size
    if form.precision == against.precision == "fp32":
        is_close, limit = worst <= FP32_TOLERANCE, f"{FP32_TOLERANCE:g} of the largest output"
    else:
        least = MIN_INT8_SQNR_DB if form.precision == against.precision else MIN_OTHER_PRECISION_SQNR_DB
        is_close, limit = sqnr is None or sqnr >= least, f"at least {least:g} dB"
    if not is_close:
        raise ParityError(
            f"{form.name} and {against.name} differ by {worst:.2e} of the largest output, {sqnr:.1f} dB; {limit} wanted"
        )
    return FormParity(
        form=form.name,
        against=against.name,
        worst=worst,
        sqnr_db=sqnr,
        other_readings=_others(bundle, wanted_readings, readings),
        readings=len(wanted_readings),
    )


def _others(bundle: Bundle, wanted: list[Reading], given: list[Reading]) -> int:
    """How many readings are of another place or class, or numbers further away than another device's may be."""
    m = bundle.manifest
    reach = m.golden.value_tolerance if isinstance(m.golden, WindowGolden) else 0.0

    def differ(a: Reading, b: Reading) -> bool:
        if isinstance(a.value, float) and isinstance(b.value, float):
            return a.sample != b.sample or abs(a.value - b.value) > reach
        return (a.sample, a.value) != (b.sample, b.value)

    return sum(map(differ, wanted, given)) + abs(len(wanted) - len(given))


def _through(bundle: Bundle, form: Form, sizes: tuple[int, ...]) -> tuple[Float32Array, list[Reading]]:
    """Outputs (n, outputs) and readings of the golden signal that comes in blocks of these sizes."""
    rows: list[Float32Array] = []

    def keep(frames: Frames, readings: object) -> None:
        rows.append(frames.scores)

    spec = golden.stream_spec(bundle, bundle.manifest.golden.rate_hz)
    pipeline = open_pipeline(bundle.in_form(form), spec, open_engine(1, form.engine), on_frames=keep)
    readings = golden.stream(pipeline, golden.signal(bundle), sizes)
    return np.concatenate(rows), readings
