"""One model of a finished study's row -> verified bundle with a card; nothing is trained, and no data are needed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import onnx
import torch
from torch import nn

from edge_runtime.contract.bundle import MANIFEST
from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.manifest import Training
from edge_runtime.engine.engine import Engine
from host_tools.export.forms import with_litert
from host_tools.export.front import with_front
from host_tools.export.pack_window import Cost, PackedWindow, one_window, pack_window
from host_tools.measure.integer_layers import integer_layers
from host_tools.measure.macs import macs, parameters
from host_tools.study.personal import GAIN
from host_tools.study.place import Place, cell_files, options_key
from host_tools.study.plan import Row, Study
from host_tools.study.result import Cell, RowResult, StudyResult, from_json
from host_tools.study.row_card import ShippedCell, row_card
from host_tools.study.version import is_version_of
from host_tools.tasks.known import open_task
from host_tools.tasks.shipping import shipping_of

REPORT = "report.json"
PUBLISHED = Path("docs") / "results"
LARGEST_BUNDLE = 200_000  # bytes


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which model; without a fold or a seed, the first of the row's that there is."""

    row: str
    fold: str | None = None
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class PackedRow:
    """A bundle, whose model it is, its bytes with card and golden vectors, and what its maker should know."""

    packed: PackedWindow
    row: str
    fold: str
    seed: int
    n_bytes: int
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """As plain values."""
        bundle = self.packed.bundle
        return {
            "bundle": str(bundle.path),
            "bundle_id": bundle.id,
            "row": self.row,
            "fold": self.fold,
            "seed": self.seed,
            "bytes": self.n_bytes,
            "parity": asdict(self.packed.parity),
            "warnings": list(self.warnings),
        }

    def to_text(self) -> str:
        """One line."""
        bundle, parity = self.packed.bundle, self.packed.parity
        equal = "all forms agree" if parity.network is not None else "file and device agree"
        return (
            f"{bundle.path}  ({bundle.id}): row {self.row!r}, fold {self.fold}, seed {self.seed}; "
            f"{equal} on {parity.windows} windows; {self.n_bytes / 1e3:.1f} kB"
        )


def pack_row(study: Study, out: Path, choice: Choice, destination: Path, engine: Engine) -> PackedRow:
    """Pack the chosen model, which lies with the study's report under `out`.

    Raises SettingsError for an unfinished study, a row that is refused, a fold or seed that is not there, a task that
    does not say how it is shipped, and a destination that is something else than a bundle; ParityError if two forms
    disagree.
    """
    planned = _planned(study, choice.row)
    task = open_task(study.task, study.options_of(planned))
    shipping = shipping_of(study.task, task)
    result = finished(study, out)
    row = _measured(result, planned.name)
    cell = _chosen(row, choice)
    if destination.exists() and not (destination / MANIFEST).is_file():
        raise SettingsError(f"{destination}: is there, and is no bundle; a new folder or a bundle to replace wanted")
    home = Place(root=None, out=out).of(options_key(study.options_of(planned)))
    graph, network, is_torch = _model(home, study, cell)
    shape = tuple(d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim[1:])
    if shipping.front is not None:
        graph = with_front(shipping.front, graph, shape)
    graph = one_window(graph)
    n_integer, n_layers = integer_layers(graph)
    cost = Cost(
        parameters=parameters(network), macs=macs(network, shape), integer_operators=n_integer, operators=n_layers
    )
    chosen = ShippedCell(
        row=row,
        cell=cell,
        before=next((r for r in result.rows if r.name == planned.after), None),
        graph_bytes=graph.ByteSize(),
        parameters=cost.parameters,
        macs=cost.macs,
    )
    packed = pack_window(
        graph,
        destination,
        description=shipping.description,
        cost=cost,
        given=shipping.given,
        engine=engine,
        training=Training(
            commit=result.commit,
            recipe=result.name,
            recipe_sha256=result.study_sha256,
            seed=cell.seed,
            records=f"{result.data}; training part of fold {cell.fold}",
            simulated=shipping.simulated,
        ),
        card=row_card(result, chosen, shipping),
        metrics={k: e.value for k, e in row.figures.items() if e.value is not None and k != GAIN},
        network=_whole(shipping.front, network) if is_torch else None,
    )
    packed = replace(packed, bundle=with_litert(packed.bundle))
    n_bytes = sum(f.stat().st_size for f in packed.bundle.path.iterdir())
    return PackedRow(
        packed=packed,
        row=row.name,
        fold=cell.fold,
        seed=cell.seed,
        n_bytes=n_bytes,
        warnings=tuple(_warnings(cell, n_bytes)),
    )


def finished(study: Study, out: Path) -> StudyResult:
    """The study's report under `out`, or published; raises SettingsError if there is none of this very study."""
    places = (out / REPORT, PUBLISHED / f"{study.name}.json")
    place = next((p for p in places if p.is_file()), None)
    if place is None:
        raise SettingsError(
            f"study {study.name} is not finished: neither {places[0]} nor {places[1]} is there; "
            f"`vitaledge study {study.name}` ends with one"
        )
    result = from_json(place)
    if not is_version_of(result.study_sha256, study):
        raise SettingsError(
            f"{place}: is the report of another version of study {study.name} (sha256 {result.study_sha256[:12]}); "
            "run the study again, which trains only what has changed"
        )
    return result


def _planned(study: Study, name: str) -> Row:
    names = [r.name for r in study.row]
    if name not in names:
        raise SettingsError(f"study {study.name}: no row {name!r}; rows are {', '.join(map(repr, names))}")
    return study.find(name)


def _measured(result: StudyResult, name: str) -> RowResult:
    for refused in result.refused:
        if refused.name == name:
            raise SettingsError(f"row {name!r} has no model to pack: it is refused, {refused.why}")
    return next(r for r in result.rows if r.name == name)


def _chosen(row: RowResult, choice: Choice) -> Cell:
    for cell in row.cells:
        if choice.fold in (None, cell.fold) and choice.seed in (None, cell.seed):
            return cell
    wanted = " ".join(
        f"{word} {value}" for word, value in (("fold", choice.fold), ("seed", choice.seed)) if value is not None
    )
    there = ", ".join(f"fold {c.fold} seed {c.seed}" for c in row.cells)
    raise SettingsError(f"row {row.name!r}: no model of {wanted}; there are {there}")


def _model(home: Path, study: Study, cell: Cell) -> tuple[onnx.ModelProto, nn.Module, bool]:
    """The file that was scored, the network behind it, and whether that file is an export of just this network."""
    kept = cell_files(home, cell.key)
    for place in (kept["onnx"], kept["model"]):
        if not place.is_file():
            raise SettingsError(f"{place}: no such file; `vitaledge study {study.name}` makes it again")
    # Written by this program for itself: networks whose layers were pruned are kept as objects, not as weights.
    content = torch.load(kept["model"], weights_only=False)
    return onnx.load(kept["onnx"]), content["network"].eval(), content["graph"] is None


def _whole(front: nn.Module | None, network: nn.Module) -> nn.Module:
    return network if front is None else nn.Sequential(front, network)


def _warnings(cell: Cell, n_bytes: int) -> list[str]:
    said = [f"a guard refused a step, so the model is that before it ({reason})" for reason in cell.refused]
    if n_bytes > LARGEST_BUNDLE:
        said.append(f"bundle is {n_bytes / 1e3:.1f} kB; at most {LARGEST_BUNDLE / 1e3:.0f} kB wanted")
    return said
