"""Signatures of bundles and runtimes: made here with an SSH key, checked on the device against its allowed signers.

What is signed: of a bundle its manifest.json, which holds the hash of every other file; of a runtime the list of the
hashes of its archives. The signature of a bundle lies beside its manifest and travels with it; that of a runtime is
made when it is deployed, since only then it is known which wheels the device needs.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract.bundle import MANIFEST, Bundle, open_bundle
from edge_runtime.contract.errors import SettingsError
from host_tools.ship.archives import Archive
from host_tools.ship.device import Device, connect
from host_tools.ship.options import ShipOptions

NAMESPACE = "vitaledge"
SIGNATURE = f"{MANIFEST}.sig"
SYSTEM_SIGNERS = "/etc/vitaledge/allowed_signers"
RUNTIME_HEAD = "vitaledge runtime 1"
# `[principals] [options] type key [comment]`: a public key, or a line as ssh-keygen reads allowed signers.
SIGNER = re.compile(r"^(?:\S+ +(?:\S+ +)?)?((?:ssh|ecdsa|sk)-[\w@.-]+ +[A-Za-z0-9+/=]+)(?: .*)?$")


@dataclass(frozen=True, kw_only=True)
class Signatures:
    """Who answers for a bundle and for a runtime; empty where nobody does.

    runtime  the text that `runtime_signature` signs
    """

    bundle_signature: str
    runtime: str
    runtime_signature: str

    def to_json(self) -> dict[str, str]:
        """As the device wants it."""
        return {
            "bundle_signature": self.bundle_signature,
            "runtime": self.runtime,
            "runtime_signature": self.runtime_signature,
        }


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Whom a device trusts.

    file     where its allowed signers are; empty: it takes everything
    signers  lines of that file
    active   the active release; empty: none
    refused  release on the device -> why it would not be taken again
    """

    file: str
    signers: tuple[str, ...]
    active: str
    refused: dict[str, str]

    def to_text(self) -> str:
        """For people."""
        if not self.signers:
            return "no allowed signers: whoever may log in may deploy; set some with --signer FILE"
        lines = [f"{len(self.signers)} allowed signers in {self.file}:", *(f"  {line}" for line in self.signers)]
        if self.active in self.refused:
            lines.append(f"active, and not signed by them: {self.active}; deploy it again with --sign KEY")
        others = [name for name in self.refused if name != self.active]
        if others:
            lines.append(f"cannot be rolled back to any more: {', '.join(others)}")
        return "\n".join(lines)


def sign(data: bytes, key: Path) -> str:
    """A signature of `data` as ssh-keygen makes it, in its armour.

    key  a private key without a passphrase, or the public key of one that the agent holds
    Raises SettingsError if the key cannot sign.
    """
    if not key.is_file():
        raise SettingsError(f"{key}: no such file; a key made by ssh-keygen wanted")
    environment = {**os.environ, "SSH_ASKPASS_REQUIRE": "never"}
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key)]
    try:
        # A session of its own has no terminal on which a passphrase could be asked for.
        done = subprocess.run(
            argv, input=data, capture_output=True, check=False, timeout=60, env=environment, start_new_session=True
        )
    except FileNotFoundError as error:
        raise SettingsError("no ssh-keygen here; install OpenSSH's client") from error
    except subprocess.TimeoutExpired as error:
        raise SettingsError(f"{key}: ssh-keygen did not sign within 60 s") from error
    signature = done.stdout.decode("ascii", "replace")
    if done.returncode != 0 or "BEGIN SSH SIGNATURE" not in signature:
        raise SettingsError(
            f"{key}: cannot sign; a private key without a passphrase wanted, or FILE.pub of one that the agent "
            "holds (ssh-add)"
        )
    return signature


def sign_bundle(bundle_dir: Path, key: Path) -> Path:
    """Sign a bundle that is whole; gives the file that was written beside its manifest."""
    bundle = open_bundle(bundle_dir)
    path = bundle.file(SIGNATURE)
    aside = path.with_name(path.name + ".part")
    aside.write_text(sign(bundle.file(MANIFEST).read_bytes(), key))
    aside.replace(path)
    return path


def signatures(bundle: Bundle, archives: Sequence[Archive], key: Path | None) -> Signatures:
    """The bundle's own signature, and with a key those that are missing."""
    runtime = "\n".join([RUNTIME_HEAD, *sorted(archive.sha256 for archive in archives)])
    path = bundle.file(SIGNATURE)
    found = path.read_text("ascii", "replace") if path.is_file() else ""
    if key is None:
        return Signatures(bundle_signature=found, runtime=runtime, runtime_signature="")
    return Signatures(
        bundle_signature=found or sign(bundle.file(MANIFEST).read_bytes(), key),
        runtime=runtime,
        runtime_signature=sign(runtime.encode(), key),
    )


def authenticate(device: Device, release: str, manifest: bytes, signed: Signatures, allow_downgrade: bool) -> str:
    """Ask the device, before anything is sent, whether it will take a release; gives its file of allowed signers.

    Empty: it has none. Raises ShipError if it refuses: not signed, not by them, tampered with, older.
    """
    answer = device.verb(
        "authenticate",
        root=device.root,
        system=SYSTEM_SIGNERS,
        release=release,
        manifest=base64.b64encode(manifest).decode(),
        signed=signed.to_json(),
        allow_downgrade=allow_downgrade,
    )
    return str(answer["signers"])


def require_authentic(device: Device, release: str) -> None:
    """Raises ShipError if the device has signers and the release there is not what they signed."""
    device.verb("authentic", root=device.root, system=SYSTEM_SIGNERS, release=release)


def trust(
    target: str, signers: Sequence[Path] | None, *, everywhere: bool = False, options: ShipOptions | None = None
) -> Trust:
    """Set who may sign what a device takes; None only asks, no files lift the rule."""
    text = None if signers is None else "".join(allowed_signers(path) for path in signers)
    with connect(target, options) as device, device.locked():
        answer = device.verb("trust", root=device.root, system=SYSTEM_SIGNERS, text=text, everywhere=everywhere)
    return Trust(
        file=str(answer["file"]),
        signers=tuple(answer["signers"]),  # type: ignore[arg-type]
        active=str(answer["active"]),
        refused=dict(answer["refused"]),  # type: ignore[call-overload]
    )


def allowed_signers(path: Path) -> str:
    """A file of public keys as lines of allowed signers; raises SettingsError for anything else."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); a public key wanted") from error
    found = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = SIGNER.match(text)
        if match is None:
            # The line itself stays out of the message: it may belong to a private key.
            raise SettingsError(f"{path}:{number}: no public key; FILE.pub, or a file of allowed signers, wanted")
        found.append(f'{NAMESPACE} namespaces="{NAMESPACE}" {match[1]}\n')
    if not found:
        raise SettingsError(f"{path}: no public key in it")
    return "".join(found)
