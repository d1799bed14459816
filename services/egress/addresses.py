"""Which addresses a webhook may reach: none inside our own network (SSRF). Pure but for the resolver.

The name is resolved once and the connection goes to the address that was checked, so a second answer
of the name server can't lead elsewhere.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_CARRIER = ipaddress.ip_network("100.64.0.0/10")


class Refused(Exception):
    """The address may not be called; the text says why."""


def is_private(address: str) -> bool:
    """Whether an IP address is not one of the public internet, also when IPv6 wraps an IPv4 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            ip = ip.ipv4_mapped
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return not ip.is_global or ip.is_multicast or (ip.version == 4 and ip in _CARRIER)


def check(url: str, allow_private: bool) -> tuple[str, str, int]:
    """(ip to connect to, host name, port) of a webhook's URL, or Refused. Public ones must be https."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Refused("not an http or https URL")
    if parts.scheme == "http" and not allow_private:
        raise Refused("https only")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError as e:
        raise Refused("the name does not resolve") from e
    addresses = [str(a[4][0]) for a in found]
    if not allow_private and any(is_private(a) for a in addresses):
        raise Refused("the address is not public")
    return addresses[0], parts.hostname, port
