"""Binary protocols end to end: through a real terminal, and from the C code in the documentation."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import subprocess
import tty
from pathlib import Path

import numpy as np
import pytest
from wire_streams import rows_of, stream

from edge_runtime.sensors.protocols import PROTOCOLS
from edge_runtime.sensors.source import open_source

PAGE = Path(__file__).parents[2] / "docs" / "sensors.md"
MAIN = """
#include <stdint.h>
#include <stdio.h>
%s
static void put(uint8_t byte) { putchar(byte); }
int main(void)
{
    for (int i = 0; i < 50; i++) {
        int16_t row[2] = {(int16_t)(i * 700 - 17000), (int16_t)(i %% 7 ? -i : -32768)};
        put_frame(3, row, 2, 4294967290u + i, put);
    }
    return 0;
}
"""


def test_a_cyton_on_a_real_terminal_is_started_read_and_stopped() -> None:
    writer, reader = pty.openpty()
    tty.setraw(reader)
    try:
        source = open_source(f"serial://{os.ttyname(reader)}?protocol=cyton&channel=EXG3,EXG1")
        assert select.select([writer], [], [], 5)[0]
        assert os.read(writer, 10) == b"b"
        os.write(writer, b"OpenBCI V3 $$$" + stream("cyton", 100))
        found = []
        for block in source.blocks():
            found.append(block)
            if block.stop >= 100:
                break
        source.close()
        assert os.read(writer, 10) == b"s"
    finally:
        for fd in (writer, reader):
            with contextlib.suppress(OSError):
                os.close(fd)
    assert source.spec.channels == ("EXG3", "EXG1")
    samples = np.concatenate([b.samples for b in found])
    np.testing.assert_allclose(samples, rows_of("cyton", 100)[:, [2, 0]], atol=0.012)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, cc")
def test_the_documented_c_code_makes_frames(tmp_path: Path) -> None:
    code = re.findall(r"```c\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(code) == 1
    (tmp_path / "frames.c").write_text(MAIN % code[0])
    subprocess.run(["cc", "-Wall", "-o", "frames", "frames.c"], cwd=tmp_path, check=True, timeout=60)
    data = subprocess.run([tmp_path / "frames"], capture_output=True, check=True, timeout=60).stdout
    stage = PROTOCOLS["edge"].decoder("rate_hz=250&stream=3&columns=A,B")
    blocks = stage.feed(data)
    samples = np.concatenate([b.samples for b in blocks])
    wanted = np.array([[i * 700 - 17000, -i if i % 7 else np.nan] for i in range(50)], np.float32)
    np.testing.assert_array_equal(samples, wanted)
    assert (blocks[0].start, blocks[-1].stop, stage.counts.skipped) == (0, 50, 0)


def test_the_page_names_every_protocol_with_its_port() -> None:
    text = PAGE.read_text("utf-8")
    for name, protocol in PROTOCOLS.items():
        parity = protocol.serial.get("parity", "N")
        assert re.search(rf"\| `{name}` \| [^|]+ \| {protocol.baud} 8{parity}1 \|", text)
