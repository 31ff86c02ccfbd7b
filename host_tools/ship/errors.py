"""The one error of shipping: a target cannot be reached, refuses, or failed its check."""

from __future__ import annotations

from edge_runtime.contract.errors import EdgeError


class ShipError(EdgeError):
    """Shipping stopped; the release that was active before is active still."""


class LinkError(ShipError):
    """The link to the target was cut in the middle of something."""
