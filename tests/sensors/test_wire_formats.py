"""Laws of all wire formats: what was encoded is decoded, channels by name, options refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from wire_decoded import decoded
from wire_streams import WIRE, rows_of, stream

from edge_runtime.contract.errors import SettingsError
from edge_runtime.sensors.protocols import PROTOCOLS

TOLERANCE = {"cyton": 0.012, "edge": 5.1e-5, "healthypi3": 0.0062, "healthypi5": 0.0052, "shimmer3": 2.5e-5}


@pytest.mark.parametrize("name", WIRE)
def test_what_was_encoded_is_decoded(name: str) -> None:
    found = decoded(name, stream(name, 150), PROTOCOLS[name].example).samples
    rows = rows_of(name, 150)[: len(found)]
    assert len(found) >= 149
    begin = 25 if name in ("nonin2", "nonin7") else 0  # the numbers come with the first bytes of a packet
    np.testing.assert_allclose(found[begin:], rows[begin:], rtol=1e-6, atol=TOLERANCE.get(name, 0.0))


@pytest.mark.parametrize("name", WIRE)
def test_channels_are_chosen_by_name_and_in_any_order(name: str) -> None:
    example, data = PROTOCOLS[name].example, stream(name, 60)
    whole = PROTOCOLS[name].decoder(example)
    names = whole.spec.channels
    chosen = f"{names[-1]},{names[0]}"
    query = "&".join(q for q in (example, f"channel={chosen}") if q)
    some = PROTOCOLS[name].decoder(query)
    assert some.spec.channels == (names[-1], names[0])
    for a, b in zip(whole.feed(data), some.feed(data), strict=True):
        np.testing.assert_array_equal(b.samples, a.samples[:, [-1, 0]])
    with pytest.raises(SettingsError, match=f"channels are {names[0]}"):
        PROTOCOLS[name].decoder("&".join(q for q in (example, "channel=NONE") if q))


@pytest.mark.parametrize(
    ("name", "query", "match"),
    [
        ("shimmer3", "layout=A:i17", "TYPE is u8"),
        ("shimmer3", "layout=A:i16,A:i16", "each NAME once"),
        ("shimmer3", "layout=-:i16", "one channel with a name"),
        ("shimmer3", "layout=A:i16:x", "NAME:TYPE"),
        ("bitalino", "analog=7", "1 to 6 wanted"),
        ("bitalino", "rate_hz=250", "1, 10, 100 or 1000"),
        ("edge", "rate_hz=250&samples=200", "240 at most"),
        ("edge", "rate_hz=250&columns=A,,B", "different names"),
        ("edge", "", "'rate_hz' is missing"),
        ("cyton", "gain=0", "1 to 24 wanted"),
        ("cyton", "unit=V", "'uV', 'mV' wanted"),
        ("cyton", "rate_hz=0", "rate_hz is 0"),
        ("nonin2", "hr=1", "unknown key 'hr'"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(name: str, query: str, match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        PROTOCOLS[name].decoder(query)


def test_units_are_named_once_or_by_column() -> None:
    assert PROTOCOLS["cyton"].decoder().spec.unit == "uV"
    assert PROTOCOLS["nonin2"].decoder().spec.unit == "count,%,bpm"
    assert PROTOCOLS["nonin2"].decoder("channel=HR").spec.unit == "bpm"
