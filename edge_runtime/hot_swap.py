"""Notice that another bundle became the active one, and open it beside the running one, which goes on meanwhile."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from edge_runtime.contract.bundle import Bundle, open_bundle
from edge_runtime.contract.errors import BundleError, EdgeError

log = logging.getLogger(__name__)

M = TypeVar("M")  # what a bundle is opened as

LOOK_S = 1.0
CURRENT, RELEASES, NOTE = "current", "releases", "release.json"


class Watcher(Generic[M]):
    """Says once of each bundle that becomes active that it does, when it is open and ready to take over.

    path     of the running bundle, as the user gave it: a link to it, or a release with `current` beside its folder
    running  where the bundle that runs lies
    open_    makes a model of a bundle, in a thread of its own; what cannot be opened is logged and not tried again
    """

    def __init__(
        self,
        path: Path,
        running: Path,
        open_: Callable[[Bundle], M],
        clock: Callable[[], int],
        look_s: float = LOOK_S,
    ) -> None:
        self._link = active_link(path)
        self._running, self._open, self._clock = running, open_, clock
        self._look_ns = round(look_s * 1e9)
        self._looked_ns = clock()
        self._seen = running
        self._is_asked = threading.Event()
        self._thread: threading.Thread | None = None
        self._opened: M | None = None

    def ask(self) -> None:
        """Look now, also if nothing seems to have changed (SIGHUP)."""
        self._is_asked.set()

    @property
    def is_opening(self) -> bool:
        """Whether a bundle is being opened, or is open and was not handed over yet."""
        return self._thread is not None

    def next_model(self) -> M | None:
        """A model that is to take over now, or None; call it often."""
        if self._thread is not None:
            if self._thread.is_alive():
                return None
            self._thread, opened, self._opened = None, self._opened, None
            return opened
        now = self._clock()
        is_asked = self._is_asked.is_set()
        if not is_asked and now - self._looked_ns < self._look_ns:
            return None
        self._looked_ns = now
        self._is_asked.clear()
        place = self._link.resolve()
        if is_asked or (place != self._seen and place.exists()):
            self._seen = place
            self._thread = threading.Thread(target=self._try, args=(place,), name="hot swap", daemon=True)
            self._thread.start()
        return None

    def _try(self, place: Path) -> None:
        try:
            _refuse_other_runtime(self._running, place)
            self._opened = self._open(open_bundle(place))
        except (EdgeError, OSError) as error:
            log.error("%s; %s goes on", error, self._running.name)


def active_link(path: Path) -> Path:
    """What names the active bundle: `current` beside the folder of releases that a path lies in, else the path."""
    found = path.resolve()
    link = found.parent.parent / CURRENT
    if found.parent.name == RELEASES and link.is_symlink():
        return link
    return path.absolute()


def _refuse_other_runtime(running: Path, place: Path) -> None:
    """A release that was shipped with another runtime cannot run in this one."""
    runtimes = [_runtime(folder) for folder in (running, place)]
    if None not in runtimes and runtimes[0] != runtimes[1]:
        raise BundleError(f"{place}: wants runtime {runtimes[1]}; {runtimes[0]} is running, so restart")


def _runtime(folder: Path) -> str | None:
    try:
        note = json.loads((folder / NOTE).read_text())
    except (OSError, ValueError):
        return None
    return str(note.get("runtime")) if isinstance(note, dict) else None
