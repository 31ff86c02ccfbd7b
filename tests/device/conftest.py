"""Emulated gateways that tests share: one of a kind at a time, made when the first test asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from emulated import Emulated, running


@pytest.fixture(scope="session", params=["container", "aarch64"])
def gateway(request: pytest.FixtureRequest) -> Iterator[Emulated]:
    """Fresh for the first test that asks, and as that one left it for those that follow."""
    with running(request.param) as found:
        yield found
