"""Scores, on-target measurements and reports."""
