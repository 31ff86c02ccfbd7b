"""Reading targets."""

from __future__ import annotations

import pytest

from edge_runtime.contract.errors import SettingsError
from host_tools.ship.targets import DEFAULT_ROOT, LocalTarget, SshTarget, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("local:/srv/v", LocalTarget(root="/srv/v")),
        ("ssh://ward7", SshTarget(host="ward7", root=DEFAULT_ROOT)),
        ("ssh://pi@ward7:2222", SshTarget(host="ward7", user="pi", port=2222)),
        ("ssh://pi@ward7/srv/v/", SshTarget(host="ward7", user="pi", root="/srv/v")),
        ("ssh://ward7/~/v", SshTarget(host="ward7", root="~/v")),
        ("ssh://[fe80::1]:22", SshTarget(host="fe80::1", port=22)),
    ],
)
def test_targets_are_read(text, target):
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pi@ward7",
        "local:",
        "ssh://",
        "ssh://pi@",
        "ssh://ward7:port",
        "ssh://ward7:0",
        "ssh://-oProxy",
        "http://x",
    ],
)
def test_other_texts_are_refused_with_the_accepted_forms(text):
    with pytest.raises(SettingsError, match=r"local:DIR or ssh://\[user@\]host\[:port\]"):
        parse_target(text)


def test_a_password_is_refused_and_not_repeated():
    for text in ("ssh://pi:hunter2@ward7", "ssh://pi:hunter2@ward7:port", "pi:hunter2@ward7"):
        with pytest.raises(SettingsError) as caught:
            parse_target(text)
        assert "hunter2" not in str(caught.value)
