"""The command line of trust: `vitaledge sign` and `vitaledge trust`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from host_tools.command_line import BUNDLE, Commands, command, say, ship_options, target_options


def add_sign(commands: Commands) -> None:
    """Register `sign`."""
    parser = command(
        commands,
        "sign",
        _sign,
        "sign a bundle with an SSH key",
        "vitaledge sign deploy/bundles/ecg-beats --key ~/.ssh/id_ed25519",
        "vitaledge sign runs/mine/bundle --key ~/.ssh/id_ed25519.pub      (the agent signs)",
    )
    parser.add_argument("bundle", type=Path, help=BUNDLE)
    parser.add_argument("--key", type=Path, required=True, help="private key, or the public key of one the agent holds")


def add_trust(commands: Commands) -> None:
    """Register `trust`."""
    parser = command(
        commands,
        "trust",
        _trust,
        "say whose signatures a device wants, or set them",
        "vitaledge trust ssh://pi@gateway",
        "vitaledge trust ssh://pi@gateway --signer ~/.ssh/id_ed25519.pub",
        "vitaledge trust ssh://root@gateway --system --signer team.pub --signer release.pub",
    )
    target_options(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--signer",
        type=Path,
        action="append",
        metavar="FILE",
        help="public key, or file of allowed signers; these replace those that were set",
    )
    which.add_argument("--anybody", action="store_true", help="want no signatures any more")
    parser.add_argument("--system", action="store_true", help="for the whole device, in /etc/vitaledge (needs root)")


def _sign(options: argparse.Namespace) -> int:
    from host_tools.ship.signing import sign_bundle

    path = sign_bundle(options.bundle, options.key)
    say(options, {"signature": str(path)}, f"signed: {path}")
    return 0


def _trust(options: argparse.Namespace) -> int:
    from host_tools.ship.signing import trust

    signers = [] if options.anybody else options.signer
    found = trust(options.target, signers, everywhere=options.system, options=ship_options(options))
    say(options, asdict(found), f"{options.target}: {found.to_text()}")
    return 0
