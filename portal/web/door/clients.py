"""Where a request comes from: the peer itself, or whom a configured proxy names. Nobody else's word counts."""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass

from starlette.types import Scope

from portal.errors import UsageError

MOST_HOPS = 20
"""Addresses of one X-Forwarded-For that are looked at, from its end."""
MOST_KNOWN = 65_536
UNIX = "unix"
"""A peer without an address: a socket in the file system."""

log = logging.getLogger("portal.web")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Peer:
    """An address, what its limits are counted under, and whether its word about others counts."""

    address: str
    client: str
    trusted: bool


class Networks:
    """Addresses and networks from a setting, by commas; UsageError for what is none."""

    def __init__(self, told: str, setting: str) -> None:
        names = [part.strip() for part in told.split(",") if part.strip()]
        self._unix = UNIX in names
        try:
            self._networks: list[Network] = [ipaddress.ip_network(n, strict=False) for n in names if n != UNIX]
        except ValueError as error:
            raise UsageError(
                f"{setting} cannot be used: {error}.", "Write addresses and networks, e.g. 10.0.0.0/8."
            ) from None

    def hold(self, address: str) -> bool:
        """Whether an address is among them."""
        if not self._networks or address == UNIX:
            return address == UNIX and self._unix
        found = _parsed(address)
        return found is not None and any(found in network for network in self._networks)


class Clients:
    """Tells who asks; remembers addresses, as most come again."""

    def __init__(self, trusted: Networks) -> None:
        self._trusted = trusted
        self._known: dict[str, Peer] = {}
        self._warned = False

    def peer(self, scope: Scope) -> Peer:
        """The other end of the connection."""
        client = scope.get("client")
        return self.known(client[0] if client and client[0] else UNIX)

    def known(self, address: str) -> Peer:
        """An address, looked at once."""
        found = self._known.get(address)
        if found is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            found = self._known[address] = Peer(*_counted(address), self._trusted.hold(address))
        return found

    def behind(self, peer: Peer, scope: Scope, told: dict[bytes, bytes]) -> Peer:
        """Whom a trusted proxy forwards for: the last address of X-Forwarded-For that is no trusted proxy itself.

        Also sets the scheme it was asked by (X-Forwarded-Proto). What cannot be read counts as the proxy's own.
        """
        scheme = told.get(b"x-forwarded-proto", b"").rsplit(b",", 1)[-1].strip().lower()
        if scheme in (b"http", b"https"):
            scope["scheme"] = scheme.decode()
        lines = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        for part in b",".join(lines).decode("latin-1").split(",")[: -MOST_HOPS - 1 : -1]:
            if _parsed(part.strip()) is None:
                break
            peer = self.known(part.strip())
            if not peer.trusted:
                break
        scope["client"] = (peer.address, 0)
        return peer

    def warn(self, peer: Peer) -> None:
        """Say once that a proxy is not believed: all its clients share one address until it is."""
        if not self._warned:
            self._warned = True
            log.warning(
                "%s forwards requests for others, but is not named in PORTAL_TRUSTED_PROXIES: limits count all of them as one.",
                peer.address,
            )


def _counted(address: str) -> tuple[str, str]:
    found = _parsed(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(found), f"{ipaddress.ip_network((found, 64), strict=False)}"
    return (str(found), str(found)) if found is not None else (address[:100], address[:100])


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
