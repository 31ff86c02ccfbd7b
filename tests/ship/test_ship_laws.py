"""The laws of deployment on a device that fails at every step in turn, before the step or after it."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from shipping_fakes import FAKE_RUNTIME, fake_options, make_bundle

from edge_runtime.contract.bundle import open_bundle
from host_tools.ship.deploy import deploy, deploy_on, steps_for
from host_tools.ship.device import connect
from host_tools.ship.errors import LinkError, ShipError


class Failing:
    """A helper whose link ends at its `last`-th verb: before it is done there, or after."""

    def __init__(self, helper, last: int, when: str) -> None:
        self._helper = helper
        self._left = last
        self._when = when
        self.asked: list[str] = []

    def __getattr__(self, name):
        return getattr(self._helper, name)

    def ask(self, verb, arguments, body=None):
        """See `Helper.ask`."""
        if self._left < 0:
            raise LinkError("cut")
        self.asked.append(verb)
        self._left -= 1
        if self._left < 0 and self._when == "before":
            raise LinkError("cut")
        answer = self._helper.ask(verb, arguments, body)
        if self._left < 0:
            raise LinkError("cut")
        return answer


@pytest.fixture
def bundles(tmp_path):
    """Two versions of a bundle, and two of a runtime."""
    other = tmp_path / "edge_runtime"
    other.mkdir()
    for source in FAKE_RUNTIME.glob("*.py"):
        (other / source.name).write_bytes(source.read_bytes())
    (other / "more.py").write_text("x = 1\n")
    old = make_bundle(tmp_path / "old", model=b"weights " * 500)
    new = make_bundle(tmp_path / "new", model=b"weights " * 499 + b"Weights ")
    return (old, FAKE_RUNTIME), (new, other)


def active(root, bundles):
    """Which of two bundles is active, byte for byte."""
    for bundle, _ in bundles:
        if all((root / "current" / f.relative_to(bundle)).read_bytes() == f.read_bytes() for f in files(bundle)):
            return bundle
    return None


def files(bundle):
    """All files of a bundle."""
    return [f for f in bundle.rglob("*") if f.is_file()]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fault_at_any_step_leaves_the_old_or_the_new_release_whole(tmp_path, bundles, when):
    (old, old_runtime), (new, new_runtime) = bundles
    seen: set[str] = set()
    for last in range(100):
        root = tmp_path / f"device{last}"
        target, options = f"local:{root}", fake_options(runtime_package=new_runtime)
        deploy(old, target, options=fake_options(runtime_package=old_runtime))
        with connect(target) as whole:
            failing = Failing(whole.helper, last, when)
            device = replace(whole, helper=failing)  # type: ignore[arg-type]
            try:
                deploy_on(device, open_bundle(new), options)
                is_cut = False
            except ShipError:
                is_cut = True
        seen.update(failing.asked)
        assert active(root, bundles) in (old, new), failing.asked
        assert os.system(f"{root}/bin/edge-runtime check {root}/current >/dev/null") == 0
        deploy(new, target, options=options)
        assert active(root, bundles) == new
        assert steps_for(new, target, options=options) == []
        assert list((root / "incoming").iterdir()) == []
        if not is_cut:
            break
    assert last > 8
    assert {"lock", "facts", "receive", "unpack", "place", "verify", "remember"} <= seen


def test_a_first_deployment_that_is_cut_leaves_nothing_active_or_the_new_release(tmp_path, bundles):
    (new, runtime), _ = bundles
    for last in range(100):
        root = tmp_path / f"device{last}"
        with connect(f"local:{root}") as whole:
            device = replace(whole, helper=Failing(whole.helper, last, "after"))  # type: ignore[arg-type]
            try:
                deploy_on(device, open_bundle(new), fake_options(runtime_package=runtime))
                break
            except ShipError:
                pass
        if os.path.lexists(root / "current"):
            assert active(root, bundles) == new
            assert os.system(f"{root}/bin/edge-runtime check {root}/current >/dev/null") == 0
    assert active(root, bundles) == new
