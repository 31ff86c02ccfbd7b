"""Runs on the device, behind `device_loop.py`: whom it trusts, and whether a release was signed by them.

Standard library and the device's own ssh-keygen only.

    ROOT/trust/allowed_signers      who may sign, as ssh-keygen reads it; /etc/vitaledge/allowed_signers, where there
                                    is one, counts instead
    ROOT/trust/releases/NAME.json   the signatures that a release came with
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import json
import os
import subprocess
import tempfile
from typing import Any

from host_tools.ship.device_bytecode import sweep
from host_tools.ship.device_files import make_folder, read_json, write_synced
from host_tools.ship.device_loop import RefusedError

NAMESPACE = "vitaledge"
NOT_SIGNED = (
    " is not signed, and this device takes only what its signers signed; "
    "`vitaledge sign` the bundle, and deploy with --sign KEY"
)
Signed = dict[str, str]


def signers_file(root: str, system: str) -> str:
    """The file of allowed signers that counts; empty if there is none."""
    return next((path for path in (system, own_signers(root)) if os.path.isfile(path)), "")


def own_signers(root: str) -> str:
    """The file of allowed signers below the root."""
    return os.path.join(root, "trust", "allowed_signers")


def signatures_file(root: str, release: str) -> str:
    """Where a release's signatures lie."""
    return os.path.join(root, "trust", "releases", os.path.basename(release) + ".json")


def keygen(*arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run ssh-keygen; never asks anybody."""
    try:
        return subprocess.run(["ssh-keygen", *arguments], input=data, capture_output=True, check=False, timeout=30)
    except FileNotFoundError as error:
        raise RefusedError(
            "signers are set, but there is no ssh-keygen to check signatures with: apt install openssh-client"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise RefusedError("ssh-keygen did not end within 30 s") from error


def last_line(output: bytes) -> str:
    """What a program said last."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"


def verify(what: str, data: bytes, signature: str, signers: str) -> None:
    """Raises RefusedError unless `signature` is one of `data` by an allowed signer."""
    if not signature:
        raise RefusedError(what + NOT_SIGNED)
    with tempfile.NamedTemporaryFile("w", suffix=".sig") as file:
        file.write(signature)
        file.flush()
        seen = keygen("-Y", "check-novalidate", "-n", NAMESPACE, "-s", file.name, data=data)
        if b"illegal option" in seen.stderr or b"unknown option" in seen.stderr:
            raise RefusedError("ssh-keygen here cannot check signatures; OpenSSH 8.2 or newer wanted")
        if seen.returncode != 0:
            raise RefusedError(
                f"{what} is not what was signed ({last_line(seen.stderr + seen.stdout)}): it was tampered with, or "
                "changed since; have it signed anew if you trust it"
            )
        known = keygen("-Y", "verify", "-f", signers, "-I", NAMESPACE, "-n", NAMESPACE, "-s", file.name, data=data)
    if known.returncode != 0:
        by = seen.stdout.decode("utf-8", "replace").strip().split(" key ")[-1]
        raise RefusedError(
            f"{what} is signed by {by}, which this device does not trust ({signers}); "
            "see `vitaledge trust`, or have another sign it"
        )


def verify_both(release: str, manifest: bytes, signed: Signed, signers: str) -> None:
    """The bundle's signature and the runtime's; raises RefusedError."""
    verify("the bundle", manifest, signed.get("bundle_signature", ""), signers)
    verify("the runtime", signed.get("runtime", "").encode(), signed.get("runtime_signature", ""), signers)
    require_name(release, manifest, signed["runtime"])


def require_name(release: str, manifest: bytes, runtime: str) -> None:
    """A release's name must follow from what was signed: bundle's name, manifest's hash, runtime's hash."""
    archives = "\n".join(runtime.splitlines()[1:])
    name = json.loads(manifest)["name"]
    wanted = f"{name}-{hashlib.sha256(manifest).hexdigest()[:12]}-{hashlib.sha256(archives.encode()).hexdigest()[:8]}"
    if release != wanted:
        raise RefusedError(f"release {release} is not the one that is signed, which is {wanted}")


def keep(path: str, text: str, mode: int | None = None) -> None:
    """Write or replace a small file whose folder may not be there yet."""
    make_folder(os.path.dirname(path))
    write_synced(path, text.encode(), mode=mode)


def require_newer(root: str, manifest: bytes, release: str) -> None:
    """Raises RefusedError if a release of the same name that is active, or was before it, is newer."""
    new = json.loads(manifest)
    for name in {*read_json(os.path.join(root, "history.json")).get("releases", []), active(root)}:
        old = read_json(os.path.join(root, "releases", str(name), "manifest.json"))
        if old.get("name") == new["name"] and made(old) > made(new):
            raise RefusedError(
                f"{release} was made {new['created']}, and {name}, which is or was active here, {old['created']}: "
                "an older one is taken only with --allow-downgrade"
            )


def made(manifest: dict[str, Any]) -> datetime.datetime:
    """When a bundle was made; a time without a zone is UTC."""
    time = datetime.datetime.fromisoformat(str(manifest["created"]).replace("Z", "+00:00"))
    return time if time.tzinfo else time.replace(tzinfo=datetime.timezone.utc)


def active(root: str) -> str:
    """The active release's name; empty if there is none."""
    try:
        return os.path.basename(os.readlink(os.path.join(root, "current")))
    except OSError:
        return ""


def authenticate(root: str, system: str, release: str, manifest: str, signed: Signed, allow_downgrade: bool) -> object:
    """Before a release is sent: may it come? Keeps its signatures if so, and writes nothing if not."""
    data = base64.b64decode(manifest)
    if not allow_downgrade:
        require_newer(root, data, release)
    signers = signers_file(root, system)
    # The same release again, say to mend a file of it, needs no new signature.
    signed |= {k: v for k, v in read_json(signatures_file(root, release)).items() if not signed.get(k)}
    if signers:
        verify_both(release, data, signed, signers)
    if signed.get("bundle_signature") and signed.get("runtime_signature"):
        keep(signatures_file(root, release), json.dumps(signed))
    return {"signers": signers}


def authentic(root: str, system: str, release: str) -> object:
    """Before a release is made active: strays leave its runtime, and it must be, as it lies here, what was signed."""
    sweep(runtime_folder(root, release))
    signers = signers_file(root, system)
    if signers:
        require_signed(root, release, signers)
    return {"signers": signers}


def runtime_folder(root: str, release: str) -> str:
    """The runtime that a release names."""
    note = read_json(os.path.join(root, "releases", os.path.basename(release), "release.json"))
    return os.path.join(root, "runtime", os.path.basename(str(note.get("runtime", ""))))


def require_signed(root: str, release: str, signers: str) -> None:
    """Raises RefusedError unless a release and its runtime are, as they lie here, what was signed."""
    folder = os.path.join(root, "releases", os.path.basename(release))
    with open(os.path.join(folder, "manifest.json"), "rb") as stream:
        manifest = stream.read()
    signed = read_json(signatures_file(root, release))
    verify_both(release, manifest, signed, signers)
    for name, wanted in json.loads(manifest)["files"].items():
        with open(os.path.join(folder, name), "rb") as stream:
            if hashlib.sha256(stream.read()).hexdigest() != wanted:
                raise RefusedError(f"{release}/{name} is not the file that was signed")
    runtime = runtime_folder(root, release)
    there = read_json(os.path.join(runtime, "runtime.json")).get("archives", {})
    if sorted(there) != sorted(signed["runtime"].splitlines()[1:]):
        raise RefusedError(f"runtime {os.path.basename(runtime)} is not the one that was signed")


def trust(root: str, system: str, text: str | None, everywhere: bool) -> object:
    """Set who may sign (None: only look; empty: nobody is asked any more); says which releases they signed."""
    if text is not None:
        path = system if everywhere else own_signers(root)
        if not everywhere and os.path.isfile(system):
            raise RefusedError(f"signers are set for the whole device, in {system}: use --system as root")
        if text:
            keep(path, text, 0o644)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
    signers = signers_file(root, system)
    refused = {}
    if signers:
        for name in sorted(os.listdir(os.path.join(root, "releases")) if os.path.isdir(root + "/releases") else []):
            try:
                require_signed(root, name, signers)
            except (RefusedError, OSError, ValueError, KeyError) as error:
                refused[name] = str(error)
                # What does not hold now must be proved again when it is deployed again.
                if text is not None:
                    with contextlib.suppress(FileNotFoundError):
                        os.remove(signatures_file(root, name))
    lines: list[str] = []
    if signers:
        with open(signers) as stream:
            lines = [line.strip() for line in stream if line.strip() and not line.startswith("#")]
    return {"file": signers, "signers": lines, "active": active(root), "refused": refused}


VERBS = {verb.__name__: verb for verb in (authenticate, authentic, trust)}
