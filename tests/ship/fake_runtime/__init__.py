"""Stands for the device runtime where a test is about shipping: `check` fails when a bundle says so."""
