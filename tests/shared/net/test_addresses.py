"""Which addresses lie how far inside, and what is printed of them."""

from __future__ import annotations

import pytest

from genrep.net.client import LOOPBACK, NEVER, PRIVATE, PUBLIC, rank, shown


@pytest.mark.parametrize(
    "address, wanted",
    [
        ("8.8.8.8", PUBLIC),
        ("2606:4700::1111", PUBLIC),
        ("64:ff9b::808:808", PUBLIC),
        ("10.0.0.1", PRIVATE),
        ("172.16.3.4", PRIVATE),
        ("192.168.1.1", PRIVATE),
        ("100.64.0.1", PRIVATE),
        ("fd12::1", PRIVATE),
        ("127.0.0.1", LOOPBACK),
        ("127.8.9.1", LOOPBACK),
        ("::1", LOOPBACK),
        ("::ffff:127.0.0.1", LOOPBACK),
        ("64:ff9b::7f00:1", LOOPBACK),
        ("169.254.169.254", NEVER),
        ("::ffff:169.254.169.254", NEVER),
        ("64:ff9b::a9fe:a9fe", NEVER),
        ("2002:a9fe:a9fe::1", NEVER),
        ("fe80::1%eth0", NEVER),
        ("fd00:ec2::254", NEVER),
        ("100.100.100.200", NEVER),
        ("168.63.129.16", NEVER),
        ("0.0.0.0", NEVER),
        ("::", NEVER),
        ("224.0.0.1", NEVER),
        ("255.255.255.255", NEVER),
    ],
)
def test_how_far_inside(address: str, wanted: int) -> None:
    assert rank(address) == wanted


@pytest.mark.parametrize(
    "address, wanted",
    [
        ("https://user:secret@host:8080/a/b?token=secret#secret", "https://host:8080/a/b"),
        ("s3://key:secret@bucket/a", "s3://bucket/a"),
        ("http://[secret", "http://..."),
        ("a folder/with\nlines", "a folder/with lines"),
    ],
)
def test_nothing_secret_is_shown(address: str, wanted: str) -> None:
    assert shown(address) == wanted
