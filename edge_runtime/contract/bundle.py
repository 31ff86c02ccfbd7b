"""A bundle on disk: a directory with manifest.json, the graphs and golden vectors; opening verifies every hash."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.errors import BundleError
from edge_runtime.contract.manifest import Form, Manifest, from_json
from edge_runtime.contract.sha256 import sha256_hex

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A verified bundle: where it lies, what it says, and its id (name and hash of the manifest).

    form  whose graphs the manifest shows; None for the manifest's own
    """

    path: Path
    manifest: Manifest
    id: str
    form: Form | None = None

    def file(self, name: str) -> Path:
        """Path of one of the manifest's files."""
        return self.path / name

    def in_form(self, form: Form) -> Bundle:
        """The same bundle with the graphs of one of its forms; raises BundleError if it has no such form."""
        own, *others = self.manifest.all_forms
        if self.form is None and form == own:
            return self
        if self.form is not None or form not in others:
            raise BundleError(
                f"{self.path}: no form '{form.name}'; forms are {', '.join(f.name for f in (own, *others))}"
            )
        return replace(self, manifest=replace(self.manifest, graphs=form.graphs, forms=()), form=form)


def open_bundle(path: Path) -> Bundle:
    """Read and verify a bundle; raises BundleError naming the file that is missing, damaged or outside."""
    path = path.resolve()
    place = path / MANIFEST
    try:
        text = place.read_bytes()
    except OSError as error:
        raise BundleError(f"{place}: cannot be read ({error.strerror}); a bundle directory wanted") from error
    manifest = from_json(text.decode("utf-8", "replace"), str(place))
    for name, wanted in manifest.files.items():
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts:
            raise BundleError(f"{place}: file name {name!r} leads out of the bundle")
        found = file_sha256(path / name)
        if found != wanted:
            raise BundleError(f"{path / name}: sha256 is {found[:12]}...; manifest says {wanted[:12]}...")
    return Bundle(path=path, manifest=manifest, id=bundle_id(manifest.name, text))


def bundle_id(name: str, manifest_bytes: bytes) -> str:
    """Name and first 12 hexadecimal digits of the manifest's sha256: content decides the id."""
    return f"{name}-{sha256_hex(manifest_bytes)[:12]}"


def file_sha256(path: Path) -> str:
    """sha256 of a file, hexadecimal; raises BundleError if it cannot be read."""
    try:
        return sha256_hex(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); the manifest names it") from error
