"""Files that were shipped from here, under their sha256: what the differences to newer ones are made against."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

# A model is some ten or hundred kilobytes; what is larger is rarely a new version of something.
LARGEST_BYTES = 32 << 20
TOTAL_BYTES = 512 << 20


class Shipped:
    """A folder of contents; the ones not used for longest go first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def known(self, sha256s: Iterable[str]) -> frozenset[str]:
        """Those of some hashes whose contents are here."""
        return frozenset(one for one in sha256s if (self._folder / one).is_file())

    def read(self, sha256: str) -> bytes | None:
        """The contents; None if they are not here, or not as they were."""
        with contextlib.suppress(OSError):
            contents = (self._folder / sha256).read_bytes()
            if hashlib.sha256(contents).hexdigest() == sha256:
                with contextlib.suppress(OSError):
                    os.utime(self._folder / sha256)
                return contents
            (self._folder / sha256).unlink()
        return None

    def keep(self, source: Path | bytes, sha256: str) -> None:
        """Remember contents; a cache that cannot be written costs bytes on the next way, and nothing else."""
        with contextlib.suppress(OSError):
            n_bytes = len(source) if isinstance(source, bytes) else source.stat().st_size
            if (self._folder / sha256).is_file() or n_bytes > LARGEST_BYTES:
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            contents = source if isinstance(source, bytes) else source.read_bytes()
            handle, aside = tempfile.mkstemp(dir=self._folder, prefix=".part-")
            with os.fdopen(handle, "wb") as stream:
                stream.write(contents)
            os.replace(aside, self._folder / sha256)

    def tidy(self) -> None:
        """Remove what was not used for longest, until the rest is small enough."""
        with contextlib.suppress(OSError):
            found = sorted(((p.stat().st_mtime, p.stat().st_size, p) for p in self._folder.iterdir()), reverse=True)
            total = 0
            for _, n_bytes, path in found:
                total += n_bytes
                if total > TOTAL_BYTES:
                    path.unlink()
