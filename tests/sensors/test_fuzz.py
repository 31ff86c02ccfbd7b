"""A million fuzzed bytes into every decoder; benchmarks/test_decoders.py takes ten million."""

from __future__ import annotations

import pytest

from benchmarks.test_decoders import FUZZED, fuzzed


@pytest.mark.parametrize("name", FUZZED)
def test_a_million_fuzzed_bytes_neither_crash_a_decoder_nor_make_it_grow(name: str) -> None:
    stage = fuzzed(name, 1_000_000)
    assert stage.counts.good > 0  # half of them were frames, of which some stayed whole
