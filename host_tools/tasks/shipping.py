"""How a task's models are shipped: what the device makes of a stream and of logits, and the words of the model card.

A task that is a user's own file says it by a method `shipping()`; those that come with vitaledge, in `tasks.shipped`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.export.golden_inputs import GoldenInput
from host_tools.export.pack_window import Description
from host_tools.tasks.task import Task


@dataclass(frozen=True, kw_only=True, eq=False)
class Shipping:
    """What a bundle of a task's model says beside the model and its figures.

    description   window, hop, conditioning, classes or bins; says also what the bundle is called
    given         what the golden vectors are asked of; made up
    front         what the task does to a window before its network sees it, if not nothing
    intended_use, sees, says, protocol  paragraphs of the card
    data          who was recorded, where and when
    licence, citation  of the data
    failures      known ones, one sentence each
    figures       of `Task.score` -> title and unit; shares have the unit %
    group         who or what figures are resampled by: patient, recording
    simulated     the data are made up
    """

    description: Description
    given: GoldenInput
    front: nn.Module | None = None
    intended_use: str
    sees: str
    says: str
    data: str
    licence: str
    citation: str
    protocol: str
    failures: tuple[str, ...]
    figures: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    group: str = "group"
    simulated: bool = False


@runtime_checkable
class Shipped(Protocol):
    """A task that says itself how it is shipped."""

    def shipping(self) -> Shipping:
        """See `Shipping`."""


def shipping_of(name: str, task: Task) -> Shipping:
    """How the models of `task`, which studies call `name`, are shipped; raises SettingsError if nothing says it."""
    from host_tools.tasks.shipped import SHIPPED

    if isinstance(task, Shipped):
        return task.shipping()
    if name not in SHIPPED:
        raise SettingsError(
            f"task {name} does not say how it is shipped; a method shipping() wanted, or one of the tasks "
            f"{', '.join(sorted(SHIPPED))}"
        )
    return SHIPPED[name]()
