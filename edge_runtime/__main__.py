"""`python -m edge_runtime` is `edge-runtime`: a process of its own, which starts fast and has one thread."""

import gc
import os
import sys

GARBAGE_OBJECTS = 20_000  # Python's 700 looks through all that is loaded some ninety times at a start


def start() -> int:
    """The command line, in a process that belongs to it."""
    gc.set_threshold(GARBAGE_OBJECTS)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would start a thread a core, for products it never gets
    from edge_runtime.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(start())
