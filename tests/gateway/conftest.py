"""What tests of the gateway share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edge_runtime.contract.bundle import Bundle
from edge_runtime.engine.onnx import OnnxEngine
from edge_runtime.gateway import Gateway
from edge_runtime.slots import open_model


@pytest.fixture(params=["int8", "fp32"])
def bundle(request: pytest.FixtureRequest, int8_bundle: Bundle, fp32_bundle: Bundle) -> Bundle:
    return int8_bundle if request.param == "int8" else fp32_bundle


@pytest.fixture
def gateway_of(engine: OnnxEngine) -> Callable[..., Gateway]:
    def make(bundle: Bundle, n_slots: int = 8, **named: float) -> Gateway:
        return Gateway(open_model(bundle, engine, n_slots), n_slots=n_slots, **named)

    return make
