"""Simulated wearables: what each protocol's decoder makes of them, faults by their seed, and the command itself."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.cli import main
from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Block, StreamSpec
from edge_runtime.sensors.faults import ByteFaults, Events, Faults, parse_faults
from edge_runtime.sensors.protocols import PROTOCOLS
from edge_runtime.sensors.source import open_source
from edge_runtime.sensors.wearable import PtyOutlet, encoded, play

ROOT = Path(__file__).parents[2]
CALM = Faults()


class Wave:
    """A slow wave of 1 mV in blocks of uneven length."""

    def __init__(self, rate_hz: float = 250.0, seconds: float = 10.0) -> None:
        self.spec = StreamSpec(rate_hz=rate_hz)
        self.samples = np.sin(np.arange(round(rate_hz * seconds)) / rate_hz * 2.0).astype(np.float32)

    def blocks(self) -> Iterator[Block]:
        at, sizes = 0, [1, 300, 7, 64]
        while at < len(self.samples):
            size = sizes[at % 4]
            yield Block(start=at, samples=self.samples[at : at + size].reshape(-1, 1))
            at += size

    def close(self) -> None:
        pass


def heard(name: str, source: Wave, faults: Faults = CALM, seed: int = 1) -> tuple[dict[int, float], object]:
    """Position -> value of the first channel, as the protocol's decoder says, through damage; and the decoder."""
    decoder, damaged = PROTOCOLS[name].decoder(PROTOCOLS[name].example), ByteFaults(faults, seed)
    found: dict[int, float] = {}
    for tick, chunk, _ in encoded(name, source, faults, Events(faults, seed)):
        for b in decoder.feed(damaged.feed(chunk), (tick + 1) * 10**8):
            found.update({b.start + i: v for i, v in enumerate(b.samples[:, 0].tolist())})
    return found, decoder


@pytest.mark.parametrize(("name", "scale"), [("cyton", 1000.0), ("edge", 1.0), ("shimmer3", 1.0), ("healthypi3", 1.0)])
@pytest.mark.parametrize("rate_hz", [250.0, 360.0, 97.0])
def test_the_decoder_hears_the_record_at_the_devices_own_rate(name: str, scale: float, rate_hz: float) -> None:
    source = Wave(rate_hz)
    found, decoder = heard(name, source)
    own_hz = decoder.spec.rate_hz  # type: ignore[attr-defined]
    t = np.array(sorted(found)) / own_hz
    wanted = np.interp(t, np.arange(len(source.samples)) / rate_hz, source.samples) * scale
    np.testing.assert_allclose([found[p] for p in sorted(found)], wanted, atol=0.02 * scale)
    assert len(found) >= 9.7 * own_hz
    assert decoder.counts.damaged == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["cyton", "edge"])
@pytest.mark.parametrize("text", ["drop=0.001", "flip=0.001", "insert=0.001", "burst=0.0005", "wrap"])
def test_damage_moves_no_sample(name: str, text: str) -> None:
    """Whatever was lost, what is decoded stands at its own position; a few bits of a Cyton sample may turn."""
    clean, _ = heard(name, Wave())
    found, decoder = heard(name, Wave(), parse_faults(text), seed=3)
    offset = {p: v for p, v in found.items() if abs(v - clean.get(p, np.nan)) > 1e-3}
    assert len(found) > 0.7 * len(clean)
    assert len(offset) <= (0.05 * len(found) if name == "cyton" else 0)
    if text != "wrap":
        assert decoder.counts.skipped > 0  # type: ignore[attr-defined]


def test_bytes_are_damaged_the_same_however_they_are_cut_and_after_a_reset() -> None:
    faults = Faults(drop=0.05, flip=0.05, insert=0.05, burst=0.01)
    data = np.random.default_rng(1).integers(0, 256, 5000, np.uint8).tobytes()
    stage = ByteFaults(faults, 4)
    whole = stage.feed(data)
    for size in (1, 7, 333):
        stage.reset()
        assert b"".join(stage.feed(data[i : i + size]) for i in range(0, len(data), size)) == whole
    assert whole != data
    assert ByteFaults(faults, 5).feed(data) != whole
    assert ByteFaults(Faults(), 4).feed(data) == data


@pytest.mark.parametrize("name", ["drop", "flip", "insert"])
def test_faults_come_as_often_as_they_are_asked_for(name: str) -> None:
    stage = ByteFaults(Faults(**{name: 0.02}), 1)
    out = stage.feed(bytes(20_000))
    hit = {"drop": 20_000 - len(out), "flip": sum(b != 0 for b in out), "insert": len(out) - 20_000}[name]
    assert hit == stage.n_hit
    assert hit == pytest.approx(400, abs=80)  # four deviations of a binomial


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dorp=1", "dorp.*burst, drift_ppm, drop"),
        ("dorp", "unknown key 'dorp'; keys are burst"),
        ("drop=x", "drop is 'x'"),
        ("drop", "drop is ''; a number wanted"),
        ("flip=0.1,drop=", "drop is ''; a number wanted"),
        ("wrap=", "wrap is ''; a number wanted"),
        ("flip=2", "flip is 2"),
        ("drift_ppm=1e9", "drift_ppm"),
    ],
)
def test_faults_that_are_none_are_refused(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        parse_faults(text)


def test_a_lead_that_is_off_is_no_number() -> None:
    found, _ = heard("edge", Wave(seconds=30.0), Faults(leadoff=0.02), seed=2)
    share = np.mean(np.isnan(list(found.values())))
    assert 0.05 < share < 0.8


class Kept:
    """An outlet that keeps (time, bytes), and a clock that only `sleep` moves."""

    where = "kept"

    def __init__(self) -> None:
        self.now_ns, self.sent, self.n_unplugged = 0, [], 0

    def clock(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)

    def send(self, chunk: bytes) -> None:
        self.sent.append((self.now_ns, chunk))

    def unplug(self) -> None:
        self.n_unplugged += 1

    def close(self) -> None:
        pass


def played(faults: Faults, *, speed: float = 1.0, seed: int = 1, seconds: float = 30.0) -> tuple[Kept, int]:
    out = Kept()
    n = play(
        "edge",
        Wave(seconds=seconds),
        out,
        faults,
        seed=seed,
        speed=speed,
        is_stopped=lambda: False,
        clock=out.clock,
        sleep=out.sleep,
    )
    return out, n


@pytest.mark.parametrize(("ppm", "speed"), [(0.0, 1.0), (50.0, 1.0), (-20_000.0, 1.0), (0.0, 4.0)])
def test_a_device_runs_at_its_own_pace(ppm: float, speed: float) -> None:
    out, n = played(Faults(drift_ppm=ppm), speed=speed)
    assert out.now_ns * 1e-9 == pytest.approx(n / 250.0 / (1 + ppm * 1e-6) / speed, rel=1e-6)


def test_a_stall_holds_bytes_back_and_loses_none() -> None:
    calm, _ = played(Faults())
    stalled, _ = played(Faults(stall=0.02))
    sent = b"".join(c for _, c in stalled.sent)
    assert sent == b"".join(c for _, c in calm.sent)[: len(sent)]
    times = np.array([t for t, _ in stalled.sent]) * 1e-9
    assert 0.2 < max(np.diff(times)) < 4.0


def test_unplugged_loses_the_time_away() -> None:
    out, n = played(Faults(unplug=0.01))
    assert out.n_unplugged > 0
    assert len(b"".join(c for _, c in out.sent)) < len(b"".join(c for _, c in played(Faults())[0].sent))
    assert n > 7400


def test_a_terminal_that_was_unplugged_comes_back_under_its_link(tmp_path: Path) -> None:
    out = PtyOutlet(tmp_path / "wearable")
    first = (tmp_path / "wearable").resolve()
    out.unplug()
    assert not (tmp_path / "wearable").is_symlink()
    out.send(b"x")
    assert (tmp_path / "wearable").resolve().exists()
    out.close()
    assert list(tmp_path.iterdir()) == []
    assert str(first).startswith("/dev/")


def test_a_file_at_the_links_path_is_named_and_stays_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, folder, alias = tmp_path / "kept", tmp_path / "folder", tmp_path / "alias"
    kept.write_text("years of work")
    folder.mkdir()
    alias.symlink_to(kept)
    for path in (kept, folder, alias, tmp_path / "nowhere" / "link"):
        assert main(["simulate", "cyton", "--to", f"pty:{path}"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert str(path) in line
        assert "a path that is free, or a link to a terminal, wanted" in line
    assert kept.read_text() == "years of work"
    assert alias.readlink() == kept
    assert folder.is_dir()


def test_a_link_that_a_killed_wearable_left_is_replaced_and_one_that_is_not_its_own_stays(tmp_path: Path) -> None:
    link = tmp_path / "wearable"
    link.symlink_to("/dev/pts/999999")
    first = PtyOutlet(link)
    assert link.resolve().is_char_device()
    second = PtyOutlet(link)  # takes the name over
    first.close()
    assert link.resolve().is_char_device()
    link.unlink()
    link.write_text("put there meanwhile")
    second.close()
    assert link.read_text() == "put there meanwhile"


def test_the_command_plays_to_a_reader_over_tcp() -> None:
    command = [sys.executable, "-m", "edge_runtime", "simulate", "edge", "--to", "tcp", "--speed", "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        source = open_source(f"{url}&channel=ECG")
        n = 0
        for block in source.blocks():
            n += len(block.samples)
            if n >= 500:
                break
        source.close()
        process.terminate()
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said
    assert url.startswith("tcp://127.0.0.1:")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["morse", "--to", "tcp"], "'morse'; one of csv"),
        (["heart-rate", "--to", "tcp"], "'heart-rate', which speaks over Bluetooth: that needs a radio and cannot be"),
        (["cyton", "--to", "air"], "--to is 'air'"),
        (["cyton", "--to", "tcp:99999"], "--to: port is 99999; 0 to 65535 wanted"),
        (["cyton", "--to", "tcp:no-such-host.invalid:7000"], "tcp:no-such-host.invalid:7000: "),
        (["cyton", "--to", "tcp", "--speed", "0"], "--speed is 0"),
        (["cyton", "--to", "tcp", "--faults", "leadoff=0.1"], "cannot say that a lead is off"),
    ],
)
def test_what_cannot_be_simulated_is_refused_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *arguments]) == 1
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_a_port_that_is_taken_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = f"tcp:127.0.0.1:{other.getsockname()[1]}"
        assert main(["simulate", "cyton", "--to", where]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{where}: " in line
    assert "a free port of this machine wanted" in line


def test_a_burst_loses_1_to_64_bytes_in_a_row() -> None:
    data = b"".join(i.to_bytes(4, "big") for i in range(25_000))
    stage = ByteFaults(Faults(burst=0.001), 1)
    lost = len(data) - len(stage.feed(data))
    assert lost / stage.n_hit == pytest.approx(32.5, abs=8.0)  # four deviations of the mean of about 97 lengths
