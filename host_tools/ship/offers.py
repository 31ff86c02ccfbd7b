"""Which wheels pip would take for a platform, without taking them."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from host_tools.ship.wheels import OLDER, Platform, constraints_file, pip_options, pip_words, preferred


@dataclass(frozen=True, kw_only=True)
class Offered:
    """A wheel's file name, or why there is none."""

    wheel: str = ""
    why: str = ""


# offer(platform, requirements) -> by requirement
Offer = Callable[[Platform, tuple[str, ...]], dict[str, Offered]]


def pip_offer(source: Path | None) -> Offer:
    """What pip finds on its index, or in a folder of wheels."""

    def offer(platform: Platform, requirements: tuple[str, ...]) -> dict[str, Offered]:
        # The versions that a deployment prefers, all at once, is what nearly every platform has.
        pins = preferred(requirements, constraints_file())
        wheels, _ = _found(
            platform, [f"{name}=={pins[name]}" if name in pins else name for name in requirements], source
        )
        if wheels:
            return {name: Offered(wheel=wheel) for name, wheel in zip(requirements, wheels, strict=True)}
        answers = {}
        for name in requirements:
            own, why = _found(platform, [name], source)
            if not own and name in OLDER:
                own, _ = _found(platform, [OLDER[name]], source)
            answers[name] = Offered(wheel=own[0]) if own else Offered(why=f"no wheel for {platform} ({why})")
        return answers

    return offer


def _found(platform: Platform, wanted: list[str], source: Path | None) -> tuple[list[str], str]:
    with tempfile.TemporaryDirectory(prefix="vitaledge-offer-") as folder:
        # pip wants a folder for another platform's packages, and leaves it alone.
        argv = pip_options("install", platform, source)
        argv += ["--dry-run", "--ignore-installed", "--report", "-", "--target", folder, *wanted]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        return [], pip_words(done)
    installed = json.loads(done.stdout)["install"]
    names = {one["metadata"]["name"].lower().replace("_", "-"): one["download_info"]["url"] for one in installed}
    return [names[one.split("==")[0]].rsplit("/", 1)[1] for one in wanted], ""
