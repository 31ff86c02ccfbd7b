"""The one program that runs on a device while a host is connected: how it is started and asked (`device_loop.py`)."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from host_tools.ship.errors import LinkError, ShipError
from host_tools.ship.sources import ALONE, text_of
from host_tools.ship.transport import NOT_FOUND, Talk, Transport

OLDEST = (3, 10)
# The system's own first: what a user's PATH finds may be a shell script that looks for another.
CANDIDATES = ("/usr/bin/python3", "python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10")
# Sources of the verbs, and of what they share. Standard library only. The later ones are sent when one of theirs is
# asked for: most devices of a fleet are only looked at.
FIRST = ("device_files", "device_facts")
FIRST_VERBS = frozenset({"expand", "facts", "load", "lock", "unlock"})
LATER = ("device_bytecode", "device_steps", "device_parcels", "device_trust", "device_gate")
HELLO = b"vitaledge-helper "
HEAD = struct.Struct(">cI")
LIFE = HEAD.pack(b"H", 0)
NOISE_LINES = 200

# In the syntax of Python 3, so that an old one can say that it is too old.
BOOT = """
import json, os, sys
new = sys.version_info >= (3, 10)
said = {"python": list(sys.version_info[:3]), "executable": sys.executable, "ok": new}
sys.stdout.write("vitaledge-helper " + json.dumps(said) + "\\n")
sys.stdout.flush()
if new:
    import zlib
    def take(n):
        parts = b""
        while len(parts) < n:
            part = os.read(0, n - len(parts))
            if not part:
                sys.exit(0)
            parts += part
        return parts
    sources = json.loads(zlib.decompress(take(int.from_bytes(take(4), "big"))).decode())
    own = {"__name__": "device_loop"}
    exec(compile(sources[0], "device_loop", "exec"), own)
    own["serve"](sources[1])
"""


BROUGHT = """
p=$1
shift
case $p in "~/"*) p=$HOME/${p#"~/"} ;; esac
[ -x "$p" ] || exit 127
exec "$p" "$@"
"""


class Helper:
    """A running helper; not to be shared between threads."""

    def __init__(self, talk: Talk, name: str, executable: str, python: tuple[int, ...]) -> None:
        self._talk = talk
        self._name = name
        self.executable = executable
        self.python = python
        self.bytes_written = 0
        self._has_all = False

    def ask(self, verb: str, arguments: dict[str, object], body: Iterable[bytes] | None = None) -> dict[str, object]:
        """One verb's answer; raises ShipError with what the device said, LinkError if it says nothing."""
        if verb not in FIRST_VERBS and not self._has_all:
            self._has_all = True
            self.ask("load", {}, [later()])
        request = json.dumps({"verb": verb, "arguments": arguments, "body": body is not None}).encode()
        try:
            line = self._talk.exchange(self._counted(request, body))
        except LinkError:
            raise
        except BaseException:
            # The body's source failed: the device hears of it, and its complaint is no news.
            with contextlib.suppress(ShipError):
                self._talk.exchange([HEAD.pack(b"X", 0)])
            raise
        if not line:
            raise LinkError(f"{self._name}: {verb}: the helper there has ended; try again")
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise ShipError(f"{self._name}: {verb} answered {line[:100]!r}; JSON wanted") from error
        if "error" in answer:
            raise ShipError(f"{self._name}: {_advice(answer)}")
        return dict(answer)

    def fetch(self, path: str) -> bytes:
        """A file from there, checked."""
        head = self.ask("send", {"path": path})
        data = self._talk.read(int(str(head["n_bytes"])))
        if hashlib.sha256(data).hexdigest() != head["sha256"]:
            raise ShipError(f"{self._name}: {path} arrived damaged; fetch it again")
        return data

    def close(self) -> None:
        """End the program there."""
        with contextlib.suppress(ShipError):
            self._talk.close()

    def _counted(self, request: bytes, body: Iterable[bytes] | None) -> Iterator[bytes]:
        for frame in _frames(request, body):
            self.bytes_written += len(frame)
            yield frame


def brought(root: str) -> list[str]:
    """A command: the Python that was brought there below the root (`python_archive.py`)."""
    return ["sh", "-c", BROUGHT, "sh", f"{root}/python/current/bin/python3"]


def start(transport: Transport, name: str, last: Sequence[str]) -> Helper:
    """Find a Python there that will do and start the helper; raises NoPythonError if there is none.

    last  the command that is tried when no other Python is new enough
    """
    found = []
    for command in (*([candidate] for candidate in CANDIDATES), last):
        candidate = command[-1]
        talk = transport.talk([*command, *ALONE, "-c", BOOT], LIFE)
        verbs = first()
        line = talk.exchange([struct.pack(">I", len(verbs)) + verbs])
        for _ in range(NOISE_LINES):
            # A login script may print its own lines first.
            if not line or line.startswith(HELLO):
                break
            line = talk.exchange([])
        if not line.startswith(HELLO):
            ended = talk.close()
            if ended.rc in (NOT_FOUND, 126):
                continue
            if ended.rc == 0:
                raise ShipError(f"{name}: {candidate} did not answer; does the login shell there run programs?")
            raise ShipError(f"{name}: {candidate} failed ({ended.last_words}); a whole Python >= 3.10 wanted")
        said = json.loads(line[len(HELLO) :])
        if said["ok"]:
            return Helper(talk, name, str(said["executable"]), tuple(said["python"]))
        talk.close()
        found.append(f"{candidate} is {'.'.join(map(str, said['python']))}")
    raise NoPythonError(
        f"{name}: {', '.join(found) or 'no python3 found'}; Python >= {OLDEST[0]}.{OLDEST[1]} wanted: "
        "install it there (on Debian: apt install python3), or bring one with --python-archive"
    )


class NoPythonError(ShipError):
    """The device has no Python that is new enough."""


@cache
def first() -> bytes:
    """The loop and its first verbs, as the boot line takes them."""
    return zlib.compress(json.dumps([text_of("device_loop.py"), _named(FIRST)]).encode(), 9)


@cache
def later() -> bytes:
    """The other verbs, as `load` takes them."""
    return zlib.compress(json.dumps(_named(LATER)).encode(), 9)


def _named(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, text_of(f"{name}.py")) for name in names]


def _frames(request: bytes, body: Iterable[bytes] | None) -> Iterator[bytes]:
    yield HEAD.pack(b"V", len(request)) + request
    if body is not None:
        for chunk in body:
            yield HEAD.pack(b"D", len(chunk)) + chunk
        yield HEAD.pack(b"E", 0)


def _advice(answer: dict[str, object]) -> str:
    if answer.get("errno") in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({answer['error']}); free some space there"
    if answer.get("errno") == errno.EROFS:
        return f"the disk is read-only ({answer['error']}); remount it for writing, and look why it was"
    if answer.get("errno") in (errno.EACCES, errno.EPERM):
        return f"not allowed to write ({answer['error']}); choose a root folder that this user owns"
    return str(answer["error"])
