"""Where a server may send us on to, and addresses as they are printed: without what is secret in them."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from ..untrusted import one_line

PUBLIC, PRIVATE, LOOPBACK, NEVER = range(4)  # how far inside; a redirect leads no further inside than we were
_METADATA = {ip_address(text) for text in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")}
_TRANSLATED = IPv6Network("64:ff9b::/96")  # IPv4 behind NAT64


def rank(text: str) -> int:
    """How far inside an address lies: PUBLIC, PRIVATE, LOOPBACK, or NEVER for link-local, metadata and the like."""
    address = _unwrapped(ip_address(text.partition("%")[0]))
    if address.is_loopback:
        return LOOPBACK
    if address in _METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return NEVER
    if address.is_global:
        return PUBLIC
    return NEVER if address.is_reserved else PRIVATE


def _unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _TRANSLATED:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        if address.sixtofour is not None:
            return address.sixtofour
    return address


def ranks(host: str) -> list[int]:
    """Of all addresses of a host; none if its name cannot be resolved here."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [rank(str(entry[4][0])) for entry in found]


def shown(url: str) -> str:
    """An address without user, password and query, which may be secret; other text as it is, in one line."""
    if "://" not in url:
        return one_line(url)
    try:
        parts = urlsplit(url)
    except ValueError:
        return one_line(url.partition("://")[0]) + "://..."
    return one_line(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
