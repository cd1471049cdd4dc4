"""Hosts and ports that tenants may make this process connect to: mail servers on the public internet."""

import asyncio
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from mauntic_jobs.errors import JobFailedError
from mauntic_jobs.settings.types import MAIL_PORTS

IPNetwork = IPv4Network | IPv6Network

# As of November 2026: the special-purpose registries of IANA (RFC 6890 and its successors), and addresses by which
# clouds answer their own machines. The list is our own: Python's `is_global` differs from version to version.
_CLOSED_IPV4 = tuple(
    IPv4Network(each)
    for each in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by providers with many customers; metadata of Alibaba's cloud
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's platform
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; metadata of Oracle's cloud
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # name servers of private addresses
        "192.52.193.0/24",  # multicast tunnels
        "192.88.99.0/24",  # relays of 6to4, given up
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # name servers of private addresses
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
# The one part of IPv6 from which addresses on the internet are given out.
_GLOBAL_IPV6 = IPv6Network("2000::/3")
_CLOSED_IPV6 = tuple(
    IPv6Network(each)
    for each in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, identifiers that are not routed
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, where it does not wrap an IPv4 address that is open
        "2620:4f:8000::/48",  # name servers of private addresses
        "3fff::/20",  # documentation
    )
)
# Networks whose last 32 bits are the IPv4 address that packets end at: mapped, compatible, translated, and NAT64.
_WRAPPING_IPV6 = tuple(IPv6Network(each) for each in ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96"))
# In 6to4 the IPv4 address follows the first 16 bits.
_SIX_TO_FOUR = IPv6Network("2002::/16")

_RESOLVE_SECONDS = 10
_IPV4_BITS = 0xFFFFFFFF


class NetworkError(JobFailedError):
    """A host is unknown, or is not one that tenants may reach."""


@dataclass(frozen=True)
class Network:
    """What may be reached besides the public internet: the networks of `allowed`, and this machine if `loopback`.

    `ports` are those of the public internet; the others may be reached on any.
    """

    allowed: tuple[IPNetwork, ...] = ()
    loopback: bool = False
    ports: tuple[int, ...] = MAIL_PORTS

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return the IP addresses of a host that may be connected to, in the order to try them; never none.

        Raises NetworkError. A caller must connect to one of the addresses, for the name may mean another at once.
        """
        try:
            async with asyncio.timeout(_RESOLVE_SECONDS):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError):
            raise NetworkError(f"the host {host!a} is not known") from None
        names = list(dict.fromkeys(str(each[4][0]).partition("%")[0] for each in found))
        addresses = [(name, _target(ip_address(name))) for name in names]
        private = [name for name, target in addresses if self._is_allowed(target)]
        public = [name for name, target in addresses if name not in private and is_public(target)]
        if public and port not in self.ports:
            public = []
            if not private:
                ports = ", ".join(map(str, self.ports))
                raise NetworkError(f"port {port} of {host!a} is not one of {ports}: see the setting smtp_ports")
        usable = [name for name in names if name in private or name in public]
        if not usable:
            raise NetworkError(f"the host {host!a} is in a private network: see the setting allowed_networks")
        return usable

    def _is_allowed(self, target: IPv4Address | IPv6Address) -> bool:
        if any(target.version == network.version and target in network for network in self.allowed):
            return True
        return self.loopback and target.is_loopback


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address is one of the public internet, also where it wraps another."""
    target = _target(address)
    if isinstance(target, IPv4Address):
        return not any(target in network for network in _CLOSED_IPV4)
    return target in _GLOBAL_IPV6 and not any(target in network for network in _CLOSED_IPV6)


def parse_networks(text: str) -> tuple[IPNetwork, ...]:
    """Return networks written like `10.1.0.0/16, fd00::/8`. Raises ValueError."""
    return tuple(ip_network(each.strip()) for each in text.split(",") if each.strip())


def _target(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that packets to an IPv6 address end at, where it wraps one."""
    if isinstance(address, IPv4Address) or address.is_loopback or address.is_unspecified:
        return address
    if any(address in network for network in _WRAPPING_IPV6):
        return IPv4Address(int(address) & _IPV4_BITS)
    if address in _SIX_TO_FOUR:
        return IPv4Address(int(address) >> 80 & _IPV4_BITS)
    return address
