"""Which addresses a webhook may go to: each one that a name stands for is looked at.

Whoever holds a name decides what it stands for, and may say something else a moment later. So a
name is looked up once, and what was looked at is what is connected to.
"""

import asyncio
import socket
from collections.abc import Iterable
from concurrent.futures import Future
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from threading import Thread
from typing import Any


def _networks(*texts: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(text) for text in texts)


# Tables of ours, because what `ipaddress` calls global differs between releases of Python.
_PRIVATE = _networks(
    *("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
    *("::1/128", "fc00::/7"),
)
# Where clouds answer their own machines, with credentials too.
_CLOUDS = _networks(
    *("100.100.100.200/32", "168.63.129.16/32", "169.254.0.0/16"),
    *("fd00:ec2::254/128", "fd20:ce::254/128"),
)
_RESERVED = _networks(
    *("0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15"),
    *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
    *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
)
_PUBLIC = _networks("0.0.0.0/0", "2000::/3")
_IPV4_INSIDE = _networks("::ffff:0:0/96", "64:ff9b::/96")


class Refused(Exception):
    """A webhook may not go there; nothing was sent, and it is not the event's fault."""

    pause = True


def objection(address: str, *, private: bool) -> str | None:
    """Say what an address is that a webhook may not go to, or None if it may.

    `private` lets in this machine and private networks. Raises ValueError for what is no address.
    """
    meant = _meant(ip_address(address))
    if _within(meant, _CLOUDS):
        return "an address where a cloud answers its own machines"
    if _within(meant, _PRIVATE):
        return None if private else "a private address"
    if _within(meant, _RESERVED) or not _within(meant, _PUBLIC):
        return "no public address of one machine"
    return None


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that a mapped or a translated IPv6 address ends up at."""
    if _within(address, _IPV4_INSIDE):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _within(
    address: IPv4Address | IPv6Address, networks: Iterable[IPv4Network | IPv6Network]
) -> bool:
    return any(address in network for network in networks)


async def look_up(host: bytes, port: int, *, private: bool) -> list[str]:
    """Return the addresses of a host, each one looked at.

    Raises Refused if a webhook may not go to one of them, and OSError if there is none.
    """
    found = await asyncio.wrap_future(_asked(host, port))
    addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
    for address in addresses:
        if wrong := objection(address, private=private):
            raise Refused(
                f"{host.decode()} is at {address}, {wrong}, and gets no webhook. Correct "
                "PACELINE_WEBHOOKS_URL or that name"
                + (", or, if you mean it, set PACELINE_WEBHOOKS_ALLOW_PRIVATE=1" * (not private))
                + "; start again, then: paceline consumers resume webhooks"
            )
    return addresses


def _asked(host: bytes, port: int) -> Future[list[Any]]:
    """Ask in a thread that nobody waits for at the end: the resolver knows no deadline."""
    answer: Future[list[Any]] = Future()
    answer.set_running_or_notify_cancel()  # whoever gives up on it cannot cancel it

    def ask() -> None:
        try:
            answer.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001  # it is raised where it is waited for
            answer.set_exception(error)

    Thread(target=ask, name="look-up", daemon=True).start()
    return answer
