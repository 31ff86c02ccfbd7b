"""The hash that bundles rest on is hashlib's."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from edge_runtime.contract.sha256 import sha256_hex


def test_the_published_examples() -> None:
    """FIPS 180-2, appendix B.1 and B.2, and the empty message."""
    assert sha256_hex(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
    assert sha256_hex(two_blocks) == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    assert sha256_hex(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("size", [55, 56, 63, 64, 65, 1_000_003])
def test_it_is_hashlibs(size: int) -> None:
    content = np.random.default_rng(size).bytes(size)
    assert sha256_hex(content) == hashlib.sha256(content).hexdigest()


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="needs CPython's own modules")
def test_a_bundle_is_read_without_openssl() -> None:
    command = "import sys, edge_runtime.assemble, edge_runtime.contract.bundle; sys.exit('_hashlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
