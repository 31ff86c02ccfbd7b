"""Which hosts there are: a TOML file with hosts, groups and variables."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.strict import build
from host_tools.ship.targets import parse_target

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, kw_only=True)
class Host:
    """One host: its name, where it is, and the variables that hold for it."""

    name: str
    target: str
    groups: tuple[str, ...]
    variables: dict[str, str]

    def filled(self, text: str) -> str:
        """`text` with {name} replaced by the host's variables; raises SettingsError for one that it lacks."""
        return _filled(text, self.variables, f"host {self.name}")


@dataclass(frozen=True, kw_only=True)
class _HostTable:
    target: str | None = None
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _GroupTable:
    hosts: tuple[str, ...]
    target: str | None = None
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _File:
    schema: int
    target: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    groups: dict[str, _GroupTable] = field(default_factory=dict)
    hosts: dict[str, _HostTable] = field(default_factory=dict)


def load_inventory(path: Path) -> tuple[Host, ...]:
    """The hosts of a file, in its order; raises SettingsError naming what is wrong.

    A host's target and variables are its own, else its groups' (a later group counts more), else the file's.
    {host} is its name.
    """
    try:
        value = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); an inventory (TOML) wanted") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML ({error})") from error
    schema = value.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise SettingsError(f"{path}: schema is {schema}; this program reads up to {SCHEMA}, so update it")
    file = build(_File, value, str(path), SettingsError)
    names = [*file.hosts, *(name for group in file.groups.values() for name in group.hosts)]
    hosts = tuple(_host(file, name, str(path)) for name in dict.fromkeys(names))
    if not hosts:
        raise SettingsError(f"{path}: no host in it; [hosts.NAME] or [groups.NAME] with hosts wanted")
    seen: dict[str, str] = {}
    for host in hosts:
        # Two deployments to one root would wait for each other.
        if host.target in seen:
            raise SettingsError(f"{path}: {host.name} and {seen[host.target]} have the same target, {host.target}")
        seen[host.target] = host.name
    return hosts


def chosen(hosts: Sequence[Host], only: Sequence[str]) -> tuple[Host, ...]:
    """Hosts whose name or group matches one of `only` (with * and ?); all, if that is empty."""
    for pattern in only:
        if not any(_matches(host, pattern) for host in hosts):
            groups = sorted({group for host in hosts for group in host.groups})
            raise SettingsError(
                f"--only {pattern}: no such host or group; groups are {', '.join(groups) or 'none'}, and there are "
                f"{len(hosts)} hosts: {', '.join(h.name for h in hosts[:10])}{', ...' if len(hosts) > 10 else ''}"
            )
    return tuple(host for host in hosts if not only or any(_matches(host, pattern) for pattern in only))


def _matches(host: Host, pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in (host.name, *host.groups))


def _host(file: _File, name: str, where: str) -> Host:
    if not NAME.fullmatch(name):
        raise SettingsError(f"{where}: host name is {name!r}; letters, digits, '.', '_' and '-' wanted")
    own = file.hosts.get(name, _HostTable())
    groups = {key: group for key, group in file.groups.items() if name in group.hosts}
    variables = {"host": name, **file.variables}
    target = file.target
    for group in groups.values():
        variables |= group.variables
        target = group.target or target
    variables |= own.variables
    target = own.target or target
    if target is None:
        raise SettingsError(f"{where}: host {name} has no target; one of its own, of its group or of the file wanted")
    target = _filled(target, variables, f"{where}: host {name}")
    try:
        parse_target(target)
    except SettingsError as error:
        raise SettingsError(f"{where}: host {name}: {error}") from error
    return Host(name=name, target=target, groups=tuple(groups), variables=variables)


def _filled(text: str, variables: dict[str, str], where: str) -> str:
    def value(found: re.Match[str]) -> str:
        if found[1] not in variables:
            raise SettingsError(f"{where}: variable {{{found[1]}}} is not set; set are {', '.join(sorted(variables))}")
        return variables[found[1]]

    return PLACE.sub(value, text)
