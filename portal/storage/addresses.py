"""Which network addresses a store may connect to: a URL of a manifest must not reach into the operator's network.

Names are resolved once, every address is judged, and the connection goes to the very address that was judged, so that
a name that resolves differently a moment later gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Iterator

import httpcore

from portal.errors import PortalError, Unavailable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Admission:
    """Public addresses, and those private ones an operator names: hosts, addresses or networks, by commas."""

    def __init__(self, private: str = "", trusted: Iterable[str] = ()) -> None:
        self._names = {host.lower() for host in trusted if host}
        self._networks: list[Network] = []
        for entry in filter(None, (part.strip().lower() for part in private.split(","))):
            try:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                self._names.add(entry)

    def admits(self, host: str, address: Address) -> bool:
        """Whether ``host``, which resolved to ``address``, may be connected to."""
        if host.lower().strip("[]") in self._names:
            return True
        return all(_is_public(a) or any(a in n for n in self._networks) for a in _meant_by(address))


class GuardedNetwork(httpcore.NetworkBackend):
    """Connects to admitted addresses only."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """A stream to the first admitted address that answers; Unavailable where none is admitted."""
        last: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in self._resolve(host, port):
            try:
                return self._plain.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last

    def connect_unix_socket(self, *_: object, **__: object) -> httpcore.NetworkStream:
        """Never: no URL of a store means a socket of this machine."""
        raise refused("a socket of this machine")

    def sleep(self, seconds: float) -> None:
        """As the protocol wants it."""
        self._plain.sleep(seconds)

    def _resolve(self, host: str, port: int) -> list[str]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise httpcore.ConnectError(f"{host} cannot be resolved") from None
        addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
        admitted = [a for a in addresses if self._admission.admits(host, ipaddress.ip_address(a))]
        if not admitted:
            raise refused(host)
        return admitted


def refused(host: str) -> PortalError:
    """The error of a host in the operator's own network."""
    return Unavailable(
        f"{host} is an address inside a private network, which the portal does not read from.",
        "Name it in PORTAL_PRIVATE_HOSTS if the portal's operator means it.",
    )


def _meant_by(address: Address) -> Iterator[Address]:
    """The address and every IPv4 address it carries: a mapped or tunnelled one leads there."""
    yield address
    if isinstance(address, ipaddress.IPv6Address):
        carried = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        yield from filter(None, carried)


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address in _NAT64):
        # Judged by the IPv4 address it carries.
        return True
    site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return address.is_global and not address.is_multicast and not site_local
