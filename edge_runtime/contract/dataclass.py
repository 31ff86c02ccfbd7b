"""Dataclasses that are quick to define: the standard ones compile six functions a class, at every start.

Fields, `replace`, `asdict` and messages are those of `dataclasses`; a type checker sees the standard decorator.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, kw_only, frozen=False, eq=True):
        """`dataclasses.dataclass` of classes whose fields are given by name; nothing of it is compiled."""
        if not kw_only:
            raise TypeError("kw_only=True wanted; the other kinds are in dataclasses")

        def made(cls):
            dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=True)(cls)
            if "__init__" not in cls.__dict__:  # what is made at every hop has one of its own, which is quicker
                cls.__init__ = _init_of(cls)
            cls.__repr__ = _repr
            if frozen:
                cls.__setattr__, cls.__delattr__ = _refuse_setting, _refuse_deleting
            if eq:
                cls.__eq__, cls.__hash__ = _eq, _hash if frozen else None
            return cls

        return made


def _init_of(cls: Any) -> Any:
    fields = dataclasses.fields(cls)
    names = frozenset(f.name for f in fields)
    defaults = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
    makers = {f.name: f.default_factory for f in fields if f.default_factory is not dataclasses.MISSING}
    then = getattr(cls, "__post_init__", None)

    def __init__(self: Any, **given: Any) -> None:
        own = self.__dict__
        own.update(defaults)
        own.update(given)
        for name, make in makers.items():
            if name not in given:
                own[name] = make()
        if own.keys() != names:
            wrong = sorted(own.keys() ^ names)
            raise TypeError(f"{cls.__name__}: {', '.join(wrong)}: missing, or no field of it")
        if then is not None:
            then(self)

    return __init__


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, f.name) for f in dataclasses.fields(self) if f.compare)


def _eq(self: Any, other: object) -> bool:
    return _values(self) == _values(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _repr(self: Any) -> str:
    told = (f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.repr)
    return f"{type(self).__qualname__}({', '.join(told)})"


def _refuse_setting(self: Any, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deleting(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
