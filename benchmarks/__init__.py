"""Benchmarks with pytest-benchmark; `make bench` runs them here, and a copy runs the same on a device."""
