"""Data sets by name: where records come from, how they are split, and whether they are simulated."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract.errors import SettingsError
from host_tools.data import mitdb, simulated
from host_tools.data.records import EcgRecord, Split

ROOT_VARIABLE = "VITALEDGE_DATA"


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Labelled records with a fixed split; `load` takes a record's name."""

    name: str
    title: str
    split: Split
    load: Callable[[str], EcgRecord]
    is_simulated: bool


def open_data_set(name: str, root: Path | None) -> DataSet:
    """Open `mitdb` under the data root, or `simulated`; raises SettingsError naming what is missing."""
    if name == "simulated":
        return DataSet(
            name=name,
            title="simulated patients",
            split=simulated.split(),
            load=lambda record: simulated.load(Path(), record),
            is_simulated=True,
        )
    if name != "mitdb":
        raise SettingsError(f"data set is {name!r}; mitdb or simulated wanted")
    if root is None:
        raise SettingsError(
            f"no data root; set {ROOT_VARIABLE} to the folder that holds mitdb/ (`vitaledge data fetch mitdb` "
            "downloads it), or choose --data simulated"
        )
    if not (root / "mitdb").is_dir():
        raise SettingsError(f"{root / 'mitdb'}: no such folder; {ROOT_VARIABLE} must name the folder that holds mitdb/")
    return DataSet(
        name=name,
        title="MIT-BIH Arrhythmia Database",
        split=mitdb.split(),
        load=lambda record: mitdb.load(root, record),
        is_simulated=False,
    )


def data_root() -> Path | None:
    """The data root that the environment names, if any."""
    text = os.environ.get(ROOT_VARIABLE, "")
    return Path(text) if text else None
