"""Techniques that make a model smaller."""
