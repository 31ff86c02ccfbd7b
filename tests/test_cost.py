"""What a bundle costs on this machine, with a clock that the test moves."""

from __future__ import annotations

import json
from itertools import accumulate, chain, repeat
from pathlib import Path

import pytest

from edge_runtime.assemble import open_engine
from edge_runtime.cli import main
from edge_runtime.contract.bundle import open_bundle
from edge_runtime.cost import WARM_UP, measure_cost

BUNDLES = Path(__file__).resolve().parents[1] / "deploy" / "bundles"


def bundle(name):
    """A bundle that comes with the project."""
    if not (BUNDLES / name / "manifest.json").is_file():
        pytest.skip(f"needs the bundle {name}")
    return open_bundle(BUNDLES / name)


def test_hops_are_timed_singly_and_the_first_are_left_out():
    # The golden signal is 10,000 samples at 250 Hz, a hop 25 at 125 Hz: 200 hops of 50 samples.
    took = [10**9] * WARM_UP + [3] * 150 + [7] * 44 + [100]
    ticks = accumulate(chain.from_iterable((0, t) for t in took), initial=0)
    next(ticks)
    cost = measure_cost(bundle("ecg-beats"), open_engine(1), clock=lambda: next(ticks))
    assert (cost.n_blocks, cost.block_p50_ns, cost.block_p99_ns, cost.block_max_ns) == (195, 3, 7, 100)
    assert cost.peak_rss_bytes is None or cost.peak_rss_bytes > 1 << 20


@pytest.mark.parametrize("name", ["ecg-rhythm", "heart-disease", "ppg-respiration"])
def test_bundles_of_windows_are_timed_too(name):
    ticks = accumulate(repeat(1))
    cost = measure_cost(bundle(name), open_engine(1), clock=lambda: next(ticks))
    assert cost.n_blocks >= 5
    assert cost.block_max_ns == 1


def test_the_command_says_it_only_when_asked(capsys):
    where = str(bundle("heart-disease").path)
    assert main(["check", where, "--json"]) == 0
    assert "block_p99_ns" not in json.loads(capsys.readouterr().out)
    assert main(["check", where, "--json", "--timing"]) == 0
    assert json.loads(capsys.readouterr().out)["block_p99_ns"] > 0
