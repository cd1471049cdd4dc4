"""Which hosts tenants may make this process connect to: those of the public internet."""

import asyncio
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from mauntic_jobs.errors import JobFailedError

IPNetwork = IPv4Network | IPv6Network

_RESOLVE_SECONDS = 10
_NAT64 = IPv6Network("64:ff9b::/96")


class NetworkError(JobFailedError):
    """A host is unknown, or is not one that tenants may reach."""


@dataclass(frozen=True)
class Network:
    """What may be reached besides the public internet: the networks of `allowed`, and this machine if `loopback`."""

    allowed: tuple[IPNetwork, ...] = ()
    loopback: bool = False

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return the IP addresses of a host that may be connected to, in the order to try them; never none.

        Raises NetworkError. Whoever connects must use one of the addresses, for the name may mean another at once.
        """
        try:
            async with asyncio.timeout(_RESOLVE_SECONDS):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError):
            raise NetworkError(f"the host {host!a} is not known") from None
        addresses = list(dict.fromkeys(str(each[4][0]).partition("%")[0] for each in found))
        usable = [address for address in addresses if self._may_reach(ip_address(address))]
        if not usable:
            raise NetworkError(f"the host {host!a} is in a private network: see the setting allowed_networks")
        return usable

    def _may_reach(self, address: IPv4Address | IPv6Address) -> bool:
        meant = _meant(address)
        if any(meant.version == network.version and meant in network for network in self.allowed):
            return True
        if meant.is_loopback:
            return self.loopback
        return meant.is_global and not meant.is_multicast and not meant.is_reserved


def parse_networks(text: str) -> tuple[IPNetwork, ...]:
    """Return networks written like `10.1.0.0/16, fd00::/8`. Raises ValueError."""
    return tuple(ip_network(each.strip()) for each in text.split(",") if each.strip())


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that packets to an IPv6 address end at, where it wraps one."""
    if not isinstance(address, IPv6Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else address)
