"""A bundle's budget, written into its manifest."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from edge_runtime.contract.budget import Budget
from edge_runtime.contract.bundle import MANIFEST, Bundle, open_bundle
from edge_runtime.contract.manifest import to_json
from host_tools.ship.signing import SIGNATURE


def set_budget(bundle_dir: Path, budget: Budget | None) -> Bundle:
    """Write a budget, or take it away; a signature goes, since it was of another manifest.

    Raises BundleError for a bundle that is not whole.
    """
    bundle = open_bundle(bundle_dir)
    if bundle.manifest.budget == budget:
        return bundle
    path = bundle.file(MANIFEST)
    aside = path.with_name(path.name + ".part")
    aside.write_text(to_json(replace(bundle.manifest, budget=budget)))
    # First: a manifest that was not signed must not lie beside a signature.
    with contextlib.suppress(FileNotFoundError):
        bundle.file(SIGNATURE).unlink()
    aside.replace(path)
    return open_bundle(bundle_dir)
