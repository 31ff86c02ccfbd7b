"""Deployments that are broken at random points over a real sshd, and what must hold after each."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
from shipping_fakes import FAKE_RUNTIME, Proxy, make_bundle

from host_tools.ship.deploy import deploy
from host_tools.ship.errors import ShipError
from host_tools.ship.options import ShipOptions

KINDS = ("kill", "cut", "stall", "full")
# Every so many points the interrupted deployment is finished, and every so many the device is a new one.
FINISH_EVERY, NEW_EVERY = 5, 40
WRITING = ("send", "unpack", "write", "switch", "note", "make", "hash", "check")


class BrokenLawError(AssertionError):
    """Neither the old nor the new release is whole and serving."""


@dataclass
class Faults:
    """A device and the two releases it may have.

    url      of a root folder, for a port of sshd or of a proxy
    root     that folder, as this machine sees it
    sshd     process whose descendants are the device's side
    counts   points by kind, and by the step that was under way
    """

    folder: Path
    url: Callable[[Path, int | None], str]
    options: Callable[[int | None], ShipOptions]
    port: int
    root: Path
    sshd: psutil.Process
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._bundles = [self._bundle(n) for n in range(8)]
        self._runtimes = [FAKE_RUNTIME, self._runtime()]
        self._active: Path | None = None
        self._roots = 0
        self._took_s = 0.5
        self._step = ""

    def point(self, number: int, kind: str) -> str:
        """One broken deployment; gives how it ended: old or new. Raises BrokenLawError."""
        if number % NEW_EVERY == 0:
            self._roots += 1
            self._active = None
        new = self._random.choice([b for b in self._bundles if b != self._active])
        options = replace(self.options(None), runtime_package=self._random.choice(self._runtimes))
        ended = self._deploy(new, kind, options)
        self.counts[kind] += 1
        self.steps[self._step.split(" ")[0] or "connect"] += 1
        found = self._require_whole(new, f"point {number}, {kind} during {self._step!r}, {ended}")
        how = "new" if found == new else "old"
        self._active = found
        if number % FINISH_EVERY == FINISH_EVERY - 1:
            deploy(new, self.url(self._place, None), options=options)
            self._active = self._require_whole(new, f"point {number}, after deploying again")
            if self._active != new:
                raise BrokenLawError(f"point {number}: deployed again, and the old release is active")
            left = list((self._place / "incoming").iterdir())
            if left:
                raise BrokenLawError(f"point {number}: {left} is left after deploying again")
        return how

    @property
    def _place(self) -> Path:
        return self.root / f"device{self._roots}"

    def _deploy(self, bundle: Path, kind: str, options: ShipOptions) -> str:
        """A deployment, and its fault at a random moment; gives what the host was told."""
        said: list[str] = []
        self._step = ""
        at_step = self._random.choice(WRITING)

        def note(text: str, done: int, total: int) -> None:
            if not text.startswith("sending"):
                self._step = text
            if kind == "full" and text.startswith(at_step):
                self._fill()

        def work(url: str, options: ShipOptions) -> None:
            try:
                deploy(bundle, url, options=options, progress=note)
                said.append("done")
            except ShipError as error:
                said.append(str(error))

        started = time.monotonic()
        with contextlib.ExitStack() as stack:
            target, after = self.url(self._place, None), self._random.uniform(0.0, 1.1 * self._took_s)
            proxy = None
            if kind in ("cut", "stall"):
                proxy = stack.enter_context(Proxy(self.port, kind, n_bytes=self._random.randrange(1, 450_000)))
                target = self.url(self._place, proxy.own_port)
                options = replace(options, known_hosts=self.options(proxy.own_port).known_hosts, keepalive_s=0.2)
            thread = threading.Thread(target=work, args=(target, options))
            thread.start()
            if kind == "kill":
                thread.join(after)
                for child in self.sshd.children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()
            elif proxy is not None and self._random.random() < 0.5:
                # Bytes find the transfers, time the steps that move none.
                thread.join(after)
                proxy.break_now()
            thread.join(60)
            if thread.is_alive():
                raise BrokenLawError(f"{kind}: the deployment hangs")
        (self.root / "filler").unlink(missing_ok=True)
        if not said:
            raise BrokenLawError(f"{kind}: the deployment ended with an unforeseen error")
        if said == ["done"]:
            self._took_s = 0.7 * self._took_s + 0.3 * (time.monotonic() - started)
        return said[0]

    def _fill(self) -> None:
        """Leave a few bytes of the disk, or none."""
        room = os.statvfs(self.root)
        free = room.f_bavail * room.f_frsize - self._random.choice([0, 0, 4096, 60_000, 200_000])
        with contextlib.suppress(OSError), (self.root / "filler").open("wb", buffering=0) as stream:
            while free > 0:
                free -= stream.write(bytes(min(free, 1 << 20)))

    def _require_whole(self, new: Path, where: str) -> Path | None:
        """The bundle that is active, byte for byte, with a whole runtime, and serving."""
        link = self._place / "current"
        if not os.path.lexists(link):
            if self._active is not None:
                raise BrokenLawError(f"{where}: no release is active")
            return None
        release = (self._place / os.readlink(link)).resolve()
        for bundle in (new, self._active):
            if bundle is not None and all(_same(f, release / f.relative_to(bundle)) for f in _files(bundle)):
                break
        else:
            raise BrokenLawError(f"{where}: {release.name} is neither the old nor the new release")
        note = json.loads((release / "release.json").read_text())
        runtime = self._place / "runtime" / note["runtime"]
        for files in json.loads((runtime / "runtime.json").read_text())["archives"].values():
            for name, wanted in files.items():
                if hashlib.sha256((runtime / "site" / name).read_bytes()).hexdigest() != wanted:
                    raise BrokenLawError(f"{where}: {name} of the runtime is damaged")
        argv = [self._place / "bin/edge-runtime", "check", link]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not json.loads(done.stdout)["ok"]:
            raise BrokenLawError(f"{where}: it does not serve: {done.stderr}")
        return bundle

    def _bundle(self, number: int) -> Path:
        """200 kB that compress little; neighbours are alike, so that differences are sent, too."""
        alike = random.Random(number // 2).randbytes(150_000)
        model = alike + random.Random(100 + number).randbytes(50_000)
        return make_bundle(self.folder / f"bundle{number}", model=model)

    def _runtime(self) -> Path:
        folder = self.folder / "edge_runtime"
        folder.mkdir()
        for source in FAKE_RUNTIME.glob("*.py"):
            (folder / source.name).write_bytes(source.read_bytes())
        (folder / "more.py").write_bytes(b"x = '" + random.Random(0).randbytes(100_000).hex().encode() + b"'\n")
        return folder


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()
