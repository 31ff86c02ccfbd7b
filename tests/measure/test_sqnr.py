"""Signal over quantization noise against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from host_tools.measure.sqnr import sqnr_db


def test_a_known_error_has_its_known_ratio():
    # sum x^2 = 25, sum of squared errors 0.25: 20 dB
    assert sqnr_db(np.array([3.0, 4.0]), np.array([3.3, 4.4])) == pytest.approx(20.0)
    assert sqnr_db(np.ones(3), np.ones(3)) == math.inf


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_a_full_scale_uniform_signal_gains_six_decibels_a_bit(bits):
    x = np.random.default_rng(0).uniform(-1, 1, 200_000)
    step = 2.0 / 2**bits
    y = (np.floor(x / step) + 0.5) * step
    # Bennett 1948: signal 1/3, noise step^2 / 12, so 20 log10(2^bits) = 6.02 bits
    assert sqnr_db(x, y) == pytest.approx(20 * math.log10(2**bits), abs=0.05)
