"""Emulated gateways that tests share: one of a kind at a time, made when the first test asks.

`VITALEDGE_DEVICE_KINDS` says which, between commas; the default is both, container,aarch64, which `make device-test`
runs side by side. The second takes long: it makes an image of a machine of its own, and QEMU computes for it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from emulated import KINDS, Emulated, running


@pytest.fixture(scope="session", params=KINDS)
def gateway(request: pytest.FixtureRequest) -> Iterator[Emulated]:
    """Fresh for the first test that asks, and as that one left it for those that follow."""
    with running(request.param) as found:
        yield found
