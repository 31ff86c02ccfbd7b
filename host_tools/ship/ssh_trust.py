"""Whom an SSH connection trusts, who we are, and what to tell the user when it does not come about."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncssh

from host_tools.ship.errors import ShipError
from host_tools.ship.options import ShipOptions
from host_tools.ship.targets import SshTarget

SYSTEM_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")
DEFAULT_PORT = 22


class HostKeyWatch(asyncssh.SSHClient):
    """Refuses every key that is not in the known hosts and remembers its fingerprint for the message.

    new_to  where a key is noted of a host that has none there yet; None: it is refused as well
    """

    def __init__(self, new_to: Path | None = None) -> None:
        self.refused = ""
        self.trusted: asyncssh.SSHKnownHosts | None = None
        self.name = ""
        self._new_to = new_to

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Called only for keys that are not trusted."""
        name = self.name or host
        is_new = self.trusted is not None and not any(asyncssh.match_known_hosts(self.trusted, name, addr, port)[:3])
        if self._new_to is None or not is_new:
            self.refused = f"{key.get_algorithm()} {key.get_fingerprint()}"
            return False
        self._note(self._new_to, name if port == DEFAULT_PORT else f"[{name}]:{port}", key)
        return True

    @staticmethod
    def _note(place: Path, name: str, key: asyncssh.SSHKey) -> None:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = place.read_text() if place.is_file() else ""
        with place.open("a") as stream:
            stream.write("" if before.endswith("\n") or not before else "\n")
            stream.write(f"{name} {key.export_public_key().decode().strip()}\n")


def client_options(
    target: SshTarget, options: ShipOptions, watch: HostKeyWatch
) -> tuple[dict[str, Any], asyncssh.SSHClientConnectionOptions, asyncssh.SSHKnownHosts]:
    """Arguments of `asyncssh.connect`, what ~/.ssh/config makes of them, and the trusted keys."""
    given: dict[str, Any] = {"host": target.host}
    if target.user is not None:
        given["username"] = target.user
    if target.port is not None:
        given["port"] = target.port
    if options.key_file is not None:
        given["client_keys"] = [_private_key(options.key_file)]
    given |= {
        "client_factory": lambda: watch,
        "connect_timeout": options.connect_timeout_s,
        "login_timeout": options.connect_timeout_s,
        "keepalive_interval": options.keepalive_s,
        "keepalive_count_max": 3,
        "preferred_auth": "publickey",
        # The kinds of key that are known come first; with the others, a changed key is seen and can be named.
        "server_host_key_algs": "+ssh-ed25519,ecdsa-sha2-*,rsa-sha2-*",
    }
    settings = asyncssh.SSHClientConnectionOptions(**given)
    # A configuration that says "no known hosts" would turn the check off: an explicit value never does.
    trusted = _known_hosts(options.known_hosts, settings.known_hosts)
    watch.trusted, watch.name = trusted, settings.host_key_alias or settings.host
    return {**given, "known_hosts": trusted}, settings, trusted


def _private_key(place: Path) -> asyncssh.SSHKey:
    try:
        return asyncssh.read_private_key(place)
    except OSError as error:
        raise ShipError(f"key file {place}: cannot be read ({error.strerror}); a private key wanted") from error
    except asyncssh.KeyEncryptionError as error:
        raise ShipError(f"key file {place}: is encrypted; add it to the agent with ssh-add") from error
    except (asyncssh.KeyImportError, ValueError) as error:
        # asyncssh has one error for "passphrase needed" and "not a key".
        raise ShipError(
            f"key file {place}: no plain private key; one with a passphrase goes to the agent with ssh-add"
        ) from error


def _known_hosts(wanted: Path | None, configured: object) -> asyncssh.SSHKnownHosts:
    if wanted is not None:
        places = [wanted.expanduser()]
        if not places[0].is_file():
            raise ShipError(f"known hosts file {wanted}: not found; ssh-keyscan and a look at the device make one")
    elif isinstance(configured, list) and configured:
        places = [Path(str(place)).expanduser() for place in configured]
    else:
        places = [Path("~/.ssh/known_hosts").expanduser(), SYSTEM_KNOWN_HOSTS]
    try:
        text = "\n".join(place.read_text() for place in places if place.is_file())
        return asyncssh.import_known_hosts(text)
    except (OSError, ValueError) as error:
        names = ", ".join(map(str, places))
        raise ShipError(f"known hosts {names}: cannot be read; a file as ssh writes it wanted") from error


def new_known_hosts(options: ShipOptions) -> Path:
    """Where the key of a host is noted that was not known."""
    return (options.known_hosts or Path("~/.ssh/known_hosts")).expanduser()


def explain(
    error: Exception,
    target: SshTarget,
    settings: asyncssh.SSHClientConnectionOptions,
    trusted: asyncssh.SSHKnownHosts,
    watch: HostKeyWatch,
) -> ShipError:
    """One line for a connection that did not come about: what was found, what was wanted, what to do."""
    if isinstance(error, ShipError):
        return error
    if isinstance(error, asyncssh.HostKeyNotVerifiable | asyncssh.KeyExchangeFailed):
        return _host_key(target, settings, trusted, watch, error)
    if isinstance(error, asyncssh.PermissionDenied):
        return ShipError(
            f"{target}: the device refused our key for user {settings.username!r}; "
            "add the public key to its ~/.ssh/authorized_keys, or name another user or key file"
        )
    if isinstance(error, asyncssh.ConnectionLost | ConnectionResetError):
        return ShipError(f"{target}: something answered and hung up before SSH was set up; is this port sshd's?")
    if isinstance(error, ConnectionRefusedError):
        return ShipError(f"{target}: no sshd listens there; start sshd on the device or correct the port")
    if isinstance(error, asyncio.TimeoutError | TimeoutError):
        return ShipError(f"{target}: no answer in time; is the device on and on this network?")
    if isinstance(error, OSError):
        return ShipError(f"{target}: not reachable ({error.strerror or 'name not found'}); check name and network")
    return ShipError(f"{target}: SSH could not be set up ({type(error).__name__}); is this port sshd's?")


def _host_key(
    target: SshTarget,
    settings: asyncssh.SSHClientConnectionOptions,
    trusted: asyncssh.SSHKnownHosts,
    watch: HostKeyWatch,
    error: Exception,
) -> ShipError:
    name = settings.host_key_alias or settings.host
    known = asyncssh.match_known_hosts(trusted, name, "", settings.port)[0]
    if known and watch.refused:
        wanted = ", ".join(sorted(key.get_fingerprint() for key in known))
        return ShipError(
            f"{target}: the host key CHANGED: found {watch.refused}, known hosts say {wanted}; if the device "
            "was set up anew, remove its old key with ssh-keygen -R, else someone may be in between"
        )
    if watch.refused:
        return ShipError(
            f"{target}: unknown host key {watch.refused}; compare it with the device, then connect once with "
            "ssh to add it to the known hosts, name a file with --known-hosts, or take it now with --accept-new"
        )
    return ShipError(f"{target}: the host key cannot be trusted ({type(error).__name__}); see known hosts")
