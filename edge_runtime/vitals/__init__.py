"""Scores in, readings out."""
