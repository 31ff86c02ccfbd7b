"""The bundle and the runtime that users get, with wheels from pip's index, through a real sshd."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from host_tools.ship.deploy import deploy
from host_tools.ship.device import connect
from host_tools.ship.errors import ShipError
from host_tools.ship.options import ShipOptions

BUNDLE = Path(__file__).resolve().parents[2] / "deploy" / "bundles" / "ecg-beats"


def test_the_shipped_bundle_passes_its_check_on_a_gateway_without_pip_or_torch(gateway):
    if not (BUNDLE / "manifest.json").is_file():
        pytest.skip(f"needs the bundle {BUNDLE.name}: make it with the full recipe")
    own = gateway.options()
    options = ShipOptions(known_hosts=own.known_hosts, key_file=own.key_file)
    url = gateway.url()
    try:
        result = deploy(BUNDLE, url, options=options)
    except ShipError as error:
        if "index could not be reached" in str(error):
            pytest.skip("needs pip's index, or wheels in the cache")
        raise
    assert json.loads(result.check.splitlines()[-1])
    with connect(url, options) as device:
        info = device.edge_runtime(["info", f"{device.root}/current", "--json"])
        assert info.rc == 0, info.last_words
        site = next((Path(device.root) / "runtime").glob("*/site"))
    assert sorted(p.name for p in site.iterdir() if "-info" not in p.name and "libs" not in p.name) == [
        "edge_runtime",
        "numpy",
        "onnxruntime",
        "psutil",
        "serial",
    ]
    assert deploy(BUNDLE, url, options=options).steps == ()
