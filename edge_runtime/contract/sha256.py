"""SHA-256 from Python's own small modules, where it has them; `hashlib` loads OpenSSL for it, 3.5 MB of memory."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def _found() -> Callable[[bytes], Any]:
    for name in ("_sha2", "_sha256"):  # Python 3.12 and later; 3.10 and 3.11
        try:
            made: Callable[[bytes], Any] = importlib.import_module(name).sha256
        except ImportError:
            continue
        return made
    import hashlib

    return hashlib.sha256


_new = _found()


def sha256_hex(content: bytes) -> str:
    """The hash of some bytes, hexadecimal."""
    return str(_new(content).hexdigest())
