"""Samples -> bytes as a device would send them, for simulators and tests; written apart from the decoders."""
