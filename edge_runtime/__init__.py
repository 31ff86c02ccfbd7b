"""Device runtime: a wearable's bytes in, readings out; needs numpy and one inference engine."""

__version__ = "0.1.0"
