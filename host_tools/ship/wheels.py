"""Wheels for a device's own processor, Python and C library: chosen by pip on the host, kept in a cache.

They are shipped without their declared dependencies: of those of onnxruntime and ai-edge-litert, only numpy is loaded
for inference.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from host_tools.ship.archives import Archive, wheel_archive
from host_tools.ship.errors import ShipError
from host_tools.ship.facts import Facts

MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
# onnxruntime was built against numpy 1 until 1.18 and fails to load beside numpy 2.
FIRST_ORT_FOR_NUMPY_2 = (1, 19)
# Forerunners for platforms that a package has no wheel for.
OLDER = {"ai-edge-litert": "tflite-runtime"}


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What decides whether a wheel runs: processor, CPython version, glibc version."""

    machine: str
    python: tuple[int, int]
    glibc: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.machine}, Python {self.python[0]}.{self.python[1]}, glibc {self.glibc[0]}.{self.glibc[1]}"

    @property
    def key(self) -> str:
        """Name of the platform's folder in the cache."""
        return f"{self.machine}-cp{self.python[0]}{self.python[1]}-glibc{self.glibc[0]}.{self.glibc[1]}"


def platform_of(facts: Facts, where: str) -> Platform:
    """The wheels' platform of a device; raises ShipError for one that no wheel is built for."""
    machine = MACHINES.get(facts.machine.lower())
    if machine is None or facts.bits != 64:
        raise ShipError(
            f"{where}: processor is {facts.machine} with a {facts.bits}-bit Python; 64-bit x86_64 or aarch64 wanted"
        )
    if facts.implementation != "cpython":
        raise ShipError(f"{where}: Python there is {facts.implementation}; CPython wanted")
    version = re.match(r"(\d+)\.(\d+)", facts.libc_version)
    if facts.libc != "glibc" or version is None:
        raise ShipError(f"{where}: C library is {facts.libc or 'unknown'}; glibc wanted (wheels need it)")
    glibc = (int(version[1]), int(version[2]))
    return Platform(machine=machine, python=(facts.python[0], facts.python[1]), glibc=glibc)


def platform_tags(platform: Platform) -> list[str]:
    """Wheel platform tags that run there, newest first."""
    tags = []
    for minor in range(platform.glibc[1], 4 if platform.machine == "x86_64" else 16, -1):
        tags.append(f"manylinux_2_{minor}_{platform.machine}")
        if minor in OLD_NAMES:
            tags.append(f"{OLD_NAMES[minor]}_{platform.machine}")
    return tags


def preferred(requirements: tuple[str, ...], constraints: Path | None) -> dict[str, str]:
    """name -> version: the constraints file's, else the one installed here; others are left to pip."""
    pins = {}
    if constraints is not None and constraints.is_file():
        for line in constraints.read_text().splitlines():
            if found := re.match(r"\s*([A-Za-z0-9._-]+)\s*==\s*([^\s;#]+)", line):
                pins[_plain(found[1])] = found[2]
    for name in requirements:
        if _plain(name) not in pins:
            try:
                pins[_plain(name)] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
    return {name: pins[_plain(name)] for name in requirements if _plain(name) in pins}


def constraints_file() -> Path | None:
    """The repository's constraints.txt, where this package runs from a checkout."""
    path = Path(__file__).resolve().parents[2] / "constraints.txt"
    return path if path.is_file() else None


def cache_folder() -> Path:
    """VITALEDGE_CACHE, else ~/.cache/vitaledge."""
    return Path(os.environ.get("VITALEDGE_CACHE") or Path.home() / ".cache" / "vitaledge")


def wheels_for(
    platform: Platform,
    requirements: tuple[str, ...],
    *,
    source: Path | None = None,
    pins: dict[str, str] | None = None,
    cache: Path | None = None,
) -> list[Archive]:
    """The wheels of `requirements` for a platform, from the cache if they are there.

    source  folder of wheels to choose from instead of pip's index; never cached
    pins    preferred versions; where none exists for the platform, the newest that does
    Raises ShipError naming the requirement and the platform.
    """
    if not requirements:
        return []
    pins = preferred(requirements, constraints_file()) if pins is None else pins
    if source is not None and not source.is_dir():
        raise ShipError(f"--wheels {source}: no such folder; one with wheels for {platform} wanted")
    text = json.dumps([requirements, pins], sort_keys=True)
    name = f"{platform.key}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    folder = (cache or cache_folder()) / "wheels" / name
    if source is None and (kept := _kept(folder)):
        return kept
    folder.parent.mkdir(parents=True, exist_ok=True)
    if source is not None:
        folder = folder.with_name(f"{name}-given")
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".part-"))
    try:
        _download(platform, requirements, pins, source, aside)
        wheels = [wheel_archive(path) for path in sorted(aside.glob("*.whl"))]
        # Written last: a folder without it is not finished.
        (aside / "wheels.json").write_text(json.dumps({wheel.name: wheel.sha256 for wheel in wheels}))
        shutil.rmtree(folder, ignore_errors=True)
        aside.replace(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return _kept(folder)


def _kept(folder: Path) -> list[Archive]:
    """Wheels of a finished cache folder; none if it is not there, or not as it was written."""
    try:
        noted: dict[str, str] = json.loads((folder / "wheels.json").read_text())
        wheels = [wheel_archive(folder / name) for name in sorted(noted)]
    except (OSError, ValueError, zipfile.BadZipFile):
        return []
    return wheels if all(noted[wheel.name] == wheel.sha256 for wheel in wheels) else []


def _download(
    platform: Platform, requirements: tuple[str, ...], pins: dict[str, str], source: Path | None, folder: Path
) -> None:
    pinned = [f"{name}=={pins[name]}" if name in pins else name for name in requirements]
    if _pip(platform, pinned, source, folder) is not None:
        # One by one, so that only what the platform lacks differs from the pins.
        for name, wanted in zip(requirements, pinned, strict=True):
            said = _pip(platform, [wanted], source, folder)
            if said is not None and wanted != name:
                said = _pip(platform, [name], source, folder)
            if said is not None and name in OLDER and _pip(platform, [OLDER[name]], source, folder) is None:
                said = None
            if said is not None:
                place = f"in {source}" if source else "on pip's index"
                raise ShipError(
                    f"no wheel of {name} for {platform} found {place} ({said}); --wheels DIR takes wheels from a folder"
                )
    ort, numpy, tflite = (_version(folder, name) for name in ("onnxruntime", "numpy", "tflite_runtime"))
    needs_numpy_1 = tflite is not None or (ort is not None and ort < FIRST_ORT_FOR_NUMPY_2)
    if needs_numpy_1 and numpy and numpy >= (2, 0):
        for path in folder.glob("numpy-*.whl"):
            path.unlink()
        if _pip(platform, ["numpy<2"], source, folder) is not None:
            who = "tflite-runtime" if ort is None else f"onnxruntime {ort[0]}.{ort[1]}"
            raise ShipError(f"no wheel of numpy<2, which {who} needs, for {platform}")


def _pip(platform: Platform, wanted: list[str], source: Path | None, folder: Path) -> str | None:
    """Run `pip download`; gives None, or why it failed."""
    argv = [*pip_options("download", platform, source), "--dest", str(folder)]
    done = subprocess.run(argv + wanted, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else pip_words(done)


def pip_options(verb: str, platform: Platform, source: Path | None) -> list[str]:
    """pip, looking for wheels of another platform, in a folder if there is one."""
    tag = f"cp{platform.python[0]}{platform.python[1]}"
    argv = [sys.executable, "-m", "pip", verb, "--quiet", "--disable-pip-version-check", "--no-input"]
    argv += ["--no-deps", "--only-binary=:all:", "--implementation", "cp"]
    argv += ["--python-version", ".".join(map(str, platform.python))]
    argv += [word for abi in (tag, "abi3", "none") for word in ("--abi", abi)]
    argv += [word for name in platform_tags(platform) for word in ("--platform", name)]
    return argv if source is None else [*argv, "--no-index", "--find-links", str(source)]


def pip_words(done: subprocess.CompletedProcess[str]) -> str:
    """Why pip failed, in words that hold no address."""
    if "No module named pip" in done.stderr:
        return "pip is missing here: python -m ensurepip installs it"
    if "NewConnectionError" in done.stderr or "ConnectTimeout" in done.stderr:
        return "the index could not be reached"
    missing = re.search(r"No matching distribution found for (\S+)", done.stderr)
    return f"nothing matches {missing[1]}" if missing else f"pip ended with {done.returncode}"


def _version(folder: Path, name: str) -> tuple[int, int] | None:
    for path in folder.glob(f"{name}-*.whl"):
        if found := re.match(r"(\d+)\.(\d+)", path.name.split("-")[1]):
            return int(found[1]), int(found[2])
    return None


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
