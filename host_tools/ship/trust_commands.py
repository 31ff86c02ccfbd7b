"""The command line of trust: `vitaledge sign` and `vitaledge trust`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from host_tools.ship.options import ShipOptions

AddCommand = Callable[..., argparse.ArgumentParser]


def add_trust_commands(
    command: AddCommand,
    target_options: Callable[[argparse.ArgumentParser], None],
    ship_options: Callable[[argparse.Namespace], ShipOptions],
) -> None:
    """Register both; `command` makes a parser, the others are those of every verb with a target."""
    sign = command(
        "sign",
        _sign,
        "sign a bundle with an SSH key",
        "vitaledge sign deploy/bundles/ecg-beats --key ~/.ssh/id_ed25519",
        "vitaledge sign runs/mine/bundle --key ~/.ssh/id_ed25519.pub      (the agent signs)",
    )
    sign.add_argument("bundle", type=Path, help="bundle directory (with manifest.json)")
    sign.add_argument("--key", type=Path, required=True, help="private key, or the public key of one the agent holds")
    trust = command(
        "trust",
        lambda options: _trust(options, ship_options(options)),
        "say whose signatures a device wants, or set them",
        "vitaledge trust ssh://pi@gateway",
        "vitaledge trust ssh://pi@gateway --signer ~/.ssh/id_ed25519.pub",
        "vitaledge trust ssh://root@gateway --system --signer team.pub --signer release.pub",
    )
    target_options(trust)
    which = trust.add_mutually_exclusive_group()
    which.add_argument(
        "--signer",
        type=Path,
        action="append",
        metavar="FILE",
        help="public key, or file of allowed signers; these replace those that were set",
    )
    which.add_argument("--anybody", action="store_true", help="want no signatures any more")
    trust.add_argument("--system", action="store_true", help="for the whole device, in /etc/vitaledge (needs root)")


def add_deploy_options(deploy: argparse.ArgumentParser) -> None:
    """What trust adds to `vitaledge deploy`."""
    deploy.add_argument("--sign", type=Path, metavar="KEY", help="sign the runtime, and the bundle if it is not signed")
    deploy.add_argument("--allow-downgrade", action="store_true", help="let an older bundle replace a newer one")


def _sign(options: argparse.Namespace) -> int:
    from host_tools.ship.signing import sign_bundle

    path = sign_bundle(options.bundle, options.key)
    _say(options, {"signature": str(path)}, f"signed: {path}")
    return 0


def _trust(options: argparse.Namespace, ship: ShipOptions) -> int:
    from host_tools.ship.signing import trust

    signers = [] if options.anybody else options.signer
    found = trust(options.target, signers, everywhere=options.system, options=ship)
    _say(options, asdict(found), f"{options.target}: {found.to_text()}")
    return 0


def _say(options: argparse.Namespace, value: object, text: str) -> None:
    sys.stdout.write((json.dumps(value) if options.json else text) + "\n")
