"""Bundles and runtime to a target, and back again."""
