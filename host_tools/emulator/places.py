"""Where images and emulated gateways are kept, and who uses the place just now."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from host_tools.emulator.gateway import RECORD, EmulatorError, read_record

VARIABLE = "VITALEDGE_DEVICES"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")  # it becomes a host name


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of everything here: VITALEDGE_DEVICES, else ~/.cache/vitaledge-devices."""
    chosen = environment.get(VARIABLE)
    return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".cache" / "vitaledge-devices"


def gateway_folder(name: str) -> Path:
    """The folder of one gateway, there or not; raises EmulatorError for a name that is no host name."""
    if not NAME.fullmatch(name):
        raise EmulatorError(f"name is {name!r}; letters a-z, digits and '-' wanted, at most 40, such as gateway1")
    return cache_folder() / "machines" / name


def gateways() -> list[Path]:
    """Folders of all gateways."""
    return sorted(path.parent for path in (cache_folder() / "machines").glob(f"*/{RECORD}"))


def scripts() -> Path:
    """deploy/emulator of the checkout; raises EmulatorError where the package lies without one."""
    folder = Path(__file__).resolve().parents[2] / "deploy" / "emulator"
    if not folder.is_dir():
        raise EmulatorError(f"{folder}: not there; images are made from a checkout of the repository")
    return folder


@contextmanager
def locked(name: str, wait: bool = True) -> Iterator[None]:
    """Hold the lock `name` of the cache; raises EmulatorError if it is taken and `wait` is not wished."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EmulatorError(f"{name}: another command is at work with it; wait for it to end") from error
        yield


def forget_old_images(kind: str, newest: Path) -> None:
    """Remove images of a kind that no gateway was made from, but for the newest."""
    used = {read_record(folder).image for folder in gateways()}
    for image in (cache_folder() / "images").glob(f"{kind}-*"):
        if image != newest and str(image) not in used:
            remove_tree(image)


def remove_tree(folder: Path) -> None:
    """Remove a folder, but never through a file system that is still mounted in it."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    inside = [m for m in mounts if m.startswith(f"{folder}/")]
    if inside:
        raise EmulatorError(f"{inside[0]}: still mounted; umount it, then run this again")
    shutil.rmtree(folder, ignore_errors=False) if folder.exists() else None
