"""The model card of a bundle: what a model is for, what it was measured on, how, and where it fails.

Sections after Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_runtime.contract.errors import SettingsError

CARD_FILE = "MODEL_CARD.md"
NO_DEVICE = (
    "**Not a medical device.** It was not assessed by any authority and must not be used for diagnosis, treatment or "
    "monitoring of patients."
)
NO_DATA = "**Simulated data.** It was trained or measured on made-up records; the figures say nothing about patients."


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measured figure; `low` and `high` are its interval, None where there is none."""

    name: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    note: str = ""

    def to_text(self) -> str:
        """Value, unit and interval."""
        unit = f" {self.unit}" if self.unit else ""
        interval = "" if self.low is None or self.high is None else f" [{self.low:.4g}, {self.high:.4g}]"
        return f"{self.value:.4g}{unit}{interval}"


def write_card(
    *,
    title: str,
    intended_use: str,
    sees: str,
    says: str,
    data: str,
    protocol: str,
    figures: Sequence[Figure],
    failures: Sequence[str],
    origin: Sequence[tuple[str, str]] = (),
    simulated: bool = False,
) -> str:
    """The card as Markdown.

    sees, says  the input and the output in words: channels, rate, length; classes or unit, when there is no value
    protocol    how training and test were divided, and who is in which
    failures    known failures, one sentence each
    origin      rows of a table: commit, recipe, seed...
    Raises SettingsError if no figure or no failure is told: a card without them would hide that nobody looked.
    """
    if not figures or not failures:
        raise SettingsError(
            f"model card of {title}: {len(figures)} figures, {len(failures)} failures; 1 or more wanted"
        )
    parts = [f"# {title}", NO_DEVICE]
    if simulated:
        parts.append(NO_DATA)
    parts += ["## Intended use", intended_use]
    parts += ["## Input and output", f"Sees: {sees}", f"Says: {says}"]
    parts += ["## Data", data, "## Protocol", protocol]
    rows = [(f.name, f.to_text(), f.note) for f in figures]
    parts += ["## Figures", _table(("figure", "value [95 % interval]", "note"), rows)]
    parts += ["## Known failures", "\n".join(f"- {failure}" for failure in failures)]
    if origin:
        parts += ["## Origin", _table(("what", "value"), origin)]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in lines
    )
