"""The one error after which opening the same source again makes sense."""

from __future__ import annotations

from edge_runtime.contract.errors import SourceError


class SourceLost(SourceError):
    """A source that was there went away (unplugged, out of reach) and may come back."""
