"""Where a bundle is shipped to: `local:DIR` or `ssh://[user@]host[:port][/root-dir]` as a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from edge_runtime.contract.errors import SettingsError

FORMS = "local:DIR or ssh://[user@]host[:port][/root-dir]"
DEFAULT_ROOT = "~/.local/share/vitaledge"


@dataclass(frozen=True, kw_only=True)
class LocalTarget:
    """A folder of this machine that stands for a device."""

    root: str

    def __str__(self) -> str:
        return f"local:{self.root}"


@dataclass(frozen=True, kw_only=True)
class SshTarget:
    """A machine behind sshd; None leaves user and port to ~/.ssh/config; `root` may start with `~/`."""

    host: str
    user: str | None = None
    port: int | None = None
    root: str = DEFAULT_ROOT

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        return f"ssh://{user}{host}{port}"


Target = LocalTarget | SshTarget


def parse_target(text: str) -> Target:
    """Read a target; raises SettingsError naming the accepted forms."""
    if text.startswith("local:"):
        return _local(text)
    if text.startswith("ssh://"):
        return _ssh(text)
    scheme = text.split(":", 1)[0] if ":" in text else text
    raise SettingsError(f"target starts with {scheme!r}; {FORMS} wanted")


def _local(text: str) -> LocalTarget:
    folder = text.removeprefix("local:")
    if not folder:
        raise SettingsError(f"target 'local:' names no folder; {FORMS} wanted")
    return LocalTarget(root=str(Path(folder).expanduser().absolute()))


def _ssh(text: str) -> SshTarget:
    # The text itself stays out of messages: it may hold a password.
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise SettingsError(f"ssh target has an unreadable host or port; {FORMS} wanted") from error
    if url.password is not None:
        raise SettingsError("ssh target holds a password; use a key file or the agent: " + FORMS)
    if not url.hostname or url.hostname.startswith("-") or (url.username or "").startswith("-"):
        raise SettingsError(f"ssh target names no host; {FORMS} wanted")
    if url.query or url.fragment or port == 0:
        raise SettingsError(f"ssh target {url.hostname}: '?', '#' and port 0 have no meaning; {FORMS} wanted")
    path = unquote(url.path).rstrip("/")
    if path.startswith("/~/"):
        path = path[1:]
    return SshTarget(
        host=url.hostname,
        user=unquote(url.username) if url.username else None,
        port=port,
        root=path or DEFAULT_ROOT,
    )
