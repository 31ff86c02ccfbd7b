"""The difference between two files, small where they are nearly alike byte by byte (`device_parcels.patched` adds it).

Two versions of a model have the same layout: what differs is weights, in place. So the new file minus the old one is
mostly zeros and small numbers, which compress well. Where lengths differ, the files are brought in line at strings
that both have once.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from host_tools.ship.device_parcels import DELTA_HEAD, DELTA_PIECE

ANCHOR_BYTES = 12
# As many strings in a row, each a byte further, must agree before a shift is believed.
SHORTEST_RUN = 4
# Of the hash of a string, modulo 2**64: odd and large.
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
# Above this, only files of one length are compared: looking for anchors takes too long.
LARGEST_TO_ALIGN = 2 << 20

# Where a piece starts in the old file; its span in the new one; how many of its bytes are differences.
Piece = tuple[int, int, int, int]


def delta(old: bytes, new: bytes) -> bytes:
    """A difference, not yet compressed."""
    if len(old) == len(new) or max(len(old), len(new)) > LARGEST_TO_ALIGN:
        n = min(len(old), len(new))
        pieces = [(0, 0, len(new), n)]
    else:
        pieces = _pieces(old, new)
    a, b = np.frombuffer(old, np.uint8), np.frombuffer(new, np.uint8)
    # uint8 arithmetic wraps around, as `added` does.
    differences = [(b[at : at + n] - a[start : start + n]).tobytes() for start, at, _, n in pieces]
    fresh = [new[at + n : end] for _, at, end, n in pieces]
    head = DELTA_HEAD.pack(len(pieces), sum(map(len, differences)))
    table = b"".join(DELTA_PIECE.pack(start, n, end - at - n) for start, at, end, n in pieces)
    return head + table + b"".join(differences) + b"".join(fresh)


def _pieces(old: bytes, new: bytes) -> list[Piece]:
    """Spans between anchors; each begins at the same string in both files."""
    anchors = _anchors(old, new)
    ends = [*anchors[1:], (len(old), len(new))]
    return [
        (start, at, new_end, min(old_end - start, new_end - at))
        for (start, at), (old_end, new_end) in zip(anchors, ends, strict=True)
    ]


def _anchors(old: bytes, new: bytes) -> list[tuple[int, int]]:
    """Positions of strings that each file has once, rising in both; the beginning is the first."""
    (a, at_a), (b, at_b) = _alone(old), _alone(new)
    _, i, j = np.intersect1d(a, b, assume_unique=True, return_indices=True)
    # Equal hashes are nearly always equal strings; where they are not, the difference is larger, and still right.
    order = np.argsort(at_b[j])
    at, start = at_b[j][order], at_a[i][order]
    heads = np.flatnonzero(np.diff(at - start, prepend=np.iinfo(np.int64).max))
    long = np.diff(heads, append=len(at)) >= SHORTEST_RUN
    return [(0, 0), *_rising(list(zip(at[heads[long]].tolist(), start[heads[long]].tolist(), strict=True)))]


def _alone(contents: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the strings that a file has once, and where they are."""
    x = np.frombuffer(contents, np.uint8).astype(np.uint64)
    n = len(x) - ANCHOR_BYTES + 1
    if n <= 0:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    hashes = np.zeros(n, np.uint64)
    for k in range(ANCHOR_BYTES):
        hashes = hashes * MULTIPLIER + x[k : k + n]
    values, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    return values[counts == 1], first[counts == 1]


def _rising(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(old, new) where the shift changes, along the longest chain that rises in both (patience sorting)."""
    tops: list[int] = []
    chosen: list[int] = []
    before: list[int] = []
    for i, (_, start) in enumerate(pairs):
        k = bisect_left(tops, start)
        before.append(chosen[k - 1] if k else -1)
        tops[k : k + 1], chosen[k : k + 1] = [start], [i]
    i = chosen[-1] if chosen else -1
    chain = []
    while i >= 0:
        chain.append((pairs[i][1], pairs[i][0]))
        i = before[i]
    chain.reverse()
    return [pair for k, pair in enumerate(chain) if k == 0 or pair[0] - pair[1] != chain[k - 1][0] - chain[k - 1][1]]
