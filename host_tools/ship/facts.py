"""What there is on a device, as a value: asked by `device_facts.py`, read by `plan`."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_runtime.contract.strict import build
from host_tools.ship.errors import ShipError

SCHEMA = 1
GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class ReleaseFacts:
    """One release on the device: the runtime it names, and the sha256 of its files."""

    runtime: str
    files: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class RuntimeFacts:
    """One runtime on the device: sha256 of each archive in it, and whether all its files are as they were.

    is_clean  its bytecode is as it was made, and nothing lies there besides
    kept      archives that stayed there: name -> sha256
    """

    archives: dict[str, bool]
    is_clean: bool = True
    kept: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PartFacts:
    """A payload of which some has arrived."""

    n_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A device, as `device_facts.py` writes it.

    launcher  sha256 of ROOT/bin/edge-runtime; empty if it is missing or cannot be executed
    history   releases that were active, oldest first
    codecs    what can be unpacked there
    parts     payloads that have not arrived whole, by the sha256 they will have
    signers   the file of those whose signatures it wants; empty if it takes everything
    signed    releases whose signatures are there
    is_unproved  a switch was cut before the service had proved the active release
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
    codecs: tuple[str, ...] = ("raw", "zlib")
    parts: dict[str, PartFacts] = field(default_factory=dict)
    signers: str = ""
    signed: tuple[str, ...] = ()
    is_unproved: bool = False

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
            strange = "" if self.runtimes[name].is_clean else "; bytecode or files that no deployment left there"
            lines.append(f"runtime    {name}: {len(archives)} archives, {f'{n} DAMAGED' if n else 'whole'}{strange}")
        lines.append(f"history    {', '.join(self.history) or 'none'}")
        lines.append(f"signers    {self.signers or 'none: whoever may log in may deploy'}")
        if self.incoming:
            lines.append(f"leftovers  {', '.join(self.incoming)} in incoming/; the next deployment removes them")
        return "\n".join(lines)


def read_facts(answer: dict[str, object], where: str) -> Facts:
    """Facts from what the device answered; raises ShipError if they cannot be read."""
    if answer.get("schema") != SCHEMA:
        raise ShipError(f"{where}: facts have schema {answer.get('schema')}; {SCHEMA} wanted")
    return build(Facts, {k: v for k, v in answer.items() if k != "took_ns"}, f"{where}: facts", ShipError)
