"""Trained model in, verified bundle out."""
