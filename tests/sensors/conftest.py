"""What tests of sensors share."""

from __future__ import annotations

import contextlib
import os
import pty
import tty
from collections.abc import Iterator

import pytest


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """The writing end of a pseudo-terminal in raw mode, and the name of the other."""
    writer, reader = pty.openpty()
    tty.setraw(reader)
    yield writer, os.ttyname(reader)
    for fd in (writer, reader):
        with contextlib.suppress(OSError):
            os.close(fd)
