"""What there is on a device, as a value: asked by `device_facts.py`, read by `plan`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

from edge_runtime.contract.strict import build
from host_tools.ship.errors import ShipError
from host_tools.ship.transport import NOT_FOUND, Transport

OLDEST = (3, 10)
CANDIDATES = ("python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10")
SCHEMA = 1
GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class ReleaseFacts:
    """One release on the device: the runtime it names, and the sha256 of its files."""

    runtime: str
    files: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class RuntimeFacts:
    """One runtime on the device: sha256 of each archive in it, and whether all its files are as they were."""

    archives: dict[str, bool]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A device, as `device_facts.py` writes it.

    launcher  sha256 of ROOT/bin/edge-runtime; empty if it is missing or cannot be executed
    history   releases that were active, oldest first
    signers   the file of those whose signatures it wants; empty if it takes everything
    signed    releases whose signatures are there
    """

    schema: int
    executable: str
    python: tuple[int, ...]
    implementation: str
    machine: str
    bits: int
    libc: str
    libc_version: str
    root: str
    has_root: bool
    free_bytes: int
    memory_bytes: int
    releases: dict[str, ReleaseFacts]
    runtimes: dict[str, RuntimeFacts]
    launcher: str
    current: str | None
    history: tuple[str, ...]
    incoming: tuple[str, ...]
    signers: str = ""
    signed: tuple[str, ...] = ()

    @property
    def activations(self) -> tuple[str, ...]:
        """Releases that still exist in the order in which they became active; the current one is last."""
        others = (name for name in self.history if name in self.releases and name != self.current)
        return (*others, self.current) if self.current else tuple(others)

    def to_text(self) -> str:
        """What is there, as lines for people."""
        python = ".".join(map(str, self.python))
        lines = [
            f"machine    {self.machine}, {self.bits} bits, {self.memory_bytes / GIB:.1f} GiB of memory",
            f"python     {self.implementation} {python}, {self.executable}",
            f"libc       {self.libc or 'not known'} {self.libc_version}".rstrip(),
            f"root       {self.root}{'' if self.has_root else ' (not made yet)'}, {self.free_bytes / GIB:.1f} GiB free",
            f"command    {self.root + '/bin/edge-runtime' if self.launcher else 'none yet'}",
            f"current    {self.current or 'none'}",
        ]
        for name in sorted(self.releases):
            release = self.releases[name]
            lines.append(f"release    {name}: {len(release.files)} files, runtime {release.runtime or 'not known'}")
        for name in sorted(self.runtimes):
            archives = self.runtimes[name].archives
            n = sum(not whole for whole in archives.values())
            lines.append(f"runtime    {name}: {len(archives)} archives, {f'{n} DAMAGED' if n else 'whole'}")
        lines.append(f"history    {', '.join(self.history) or 'none'}")
        lines.append(f"signers    {self.signers or 'none: whoever may log in may deploy'}")
        if self.incoming:
            lines.append(f"leftovers  {', '.join(self.incoming)} in incoming/; the next deployment removes them")
        return "\n".join(lines)


def gather(transport: Transport, root: str, where: str, *, brief: bool = False) -> Facts:
    """Ask the device; raises ShipError if no Python there will do. `brief`: hash nothing."""
    script = files("host_tools.ship").joinpath("device_facts.py").read_bytes()
    tail = ["brief"] if brief else []
    found = []
    for candidate in CANDIDATES:
        done = transport.run([candidate, "-I", "-S", "-", root, *tail], [script])
        if done.rc == NOT_FOUND:
            continue
        if done.rc != 0:
            raise ShipError(f"{where}: {candidate} failed ({done.last_words}); a whole Python >= 3.10 wanted")
        answer = _answer(done.stdout, where, candidate)
        if not answer.get("too_old"):
            return build(Facts, answer, f"{where}: facts", ShipError)
        found.append(f"{candidate} is {'.'.join(map(str, answer['python']))}")
    raise ShipError(
        f"{where}: {', '.join(found) or 'no python3 found'}; Python >= {OLDEST[0]}.{OLDEST[1]} wanted: "
        "install it there (on Debian: apt install python3)"
    )


def _answer(output: bytes, where: str, candidate: str) -> dict[str, list[int]]:
    # A login script may print its own lines first.
    lines = output.decode("utf-8", "replace").strip().splitlines()
    try:
        answer = json.loads(lines[-1])
        schema = answer["schema"]
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise ShipError(
            f"{where}: {candidate} did not answer in JSON; does the login shell there run programs?"
        ) from error
    if schema != SCHEMA:
        raise ShipError(f"{where}: facts have schema {schema}; {SCHEMA} wanted")
    return dict(answer)
