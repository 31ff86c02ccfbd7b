"""What the commands of `edge-runtime` share: how one is made, the arguments of all that take a bundle, what is said."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from edge_runtime.contract.bundle import Bundle
    from edge_runtime.engine.engine import Engine

Commands: TypeAlias = "argparse._SubParsersAction[CommandParser]"
Act: TypeAlias = Callable[[argparse.Namespace], int]

MOST = 1e6  # of a number of seconds, so that its nanoseconds can be counted


class Help(argparse.RawDescriptionHelpFormatter):
    """At the terminal's width; argparse itself would load `shutil` and its archive formats for that, at every start."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS", "0")) or os.get_terminal_size().columns
        except (OSError, ValueError):
            columns = 80
        super().__init__(prog, width=max(40, columns - 2))


class CommandParser(argparse.ArgumentParser):
    """Parser of one command; what it does not know is said under its own usage.

    spread  name of the arguments that may also stand behind options, and between them
    """

    spread = ""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse does, but nothing is left over."""
        found, rest = super().parse_known_args(args, namespace)
        if self.spread:
            late = [word for word in rest if not word.startswith("-")]
            setattr(found, self.spread, [*getattr(found, self.spread), *late])
            rest = [word for word in rest if word.startswith("-") and word != "--"]
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, []


def command(commands: Commands, name: str, act: Act, text: str, *examples: str) -> CommandParser:
    """A command without a bundle; `act` gives its exit code."""
    made: CommandParser = commands.add_parser(
        name,
        help=text,
        description=text,
        epilog="\n  ".join(["examples:", *examples]),
        formatter_class=Help,
    )
    made.set_defaults(act=act)
    return made


def bundle_command(commands: Commands, name: str, act: Act, text: str, *examples: str) -> CommandParser:
    """A command that takes a bundle, and says with what to run it."""
    made = command(commands, name, act, text, *examples)
    made.add_argument("bundle", type=Path, help="bundle directory (with manifest.json)")
    made.add_argument("--threads", type=count, default=1, help="threads of the inference engine (default: 1)")
    made.add_argument(
        "--provider", choices=("cpu", "xnnpack", "cuda", "tensorrt"), default="cpu", help="what runs it (default: cpu)"
    )
    made.add_argument("--allow-fallback", action="store_true", help="the CPU may run what the provider cannot")
    made.add_argument(
        "--engine",
        choices=("auto", "onnxruntime", "litert"),
        default="auto",
        help="inference engine (default: the one that `check --choose` found best, else the first that is installed)",
    )
    made.add_argument("--precision", choices=("fp32", "fp16", "int8"), help="form of the model (default: as above)")
    made.add_argument("--json", action="store_true", help="one JSON object a line on standard output")
    return made


def count(text: str) -> int:
    """The type of an option that is a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; a whole number from 1 on wanted")
    return int(text)


def positive(text: str) -> float:
    """The type of an option that is a time or a factor above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= MOST:
        raise argparse.ArgumentTypeError(f"found {text!r}; a positive number, {MOST:.0f} at most, wanted")
    return value


def opened(options: argparse.Namespace) -> tuple[Bundle, Engine]:
    """The bundle in the form to run, and its engine."""
    from edge_runtime.contract.bundle import open_bundle
    from edge_runtime.forms import open_form

    return open_form(
        open_bundle(options.bundle),
        options.engine,
        options.precision,
        options.threads,
        provider=options.provider,
        allow_fallback=options.allow_fallback,
    )


def say(options: argparse.Namespace, value: dict[str, object], text: str) -> None:
    """A line of results: `value` with --json, `text` for people."""
    sys.stdout.write((json.dumps(value) if options.json else text) + "\n")
