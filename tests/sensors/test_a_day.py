"""Twenty minutes of a wearable that is unplugged at random; benchmarks/test_a_day.py plays the whole day."""

from __future__ import annotations

import pytest

from benchmarks.test_a_day import check, day


def test_the_ledger_of_a_wearable_unplugged_at_random_is_exact_to_the_sample(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR")
    device, witness, ledger = day(1200.0, seed=4, unplug_s=90.0)
    check(device, witness, ledger)
    assert device.n_lost_bytes > 2
    assert ledger.gap > 1000
