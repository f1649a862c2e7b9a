"""The sandbox's network: a router namespace with a bridge, and for each guest a namespace with a veth pair.

    host  ga-<id> ── up0  router  br0 ── v1, v2, …  ens5  guests

Each sandbox has a /22 of 198.18.0.0/15 (RFC 2544: reserved for benchmarks, not routed on the internet). The lower /23
is for guests, with the router at its first address; the last /30 is the link to the host. The host reaches guests by a
route over that link, except private guests: the router drops new connections from the host to them. Guests reach each
other over the bridge, and other networks through the host and a masquerade rule. 169.254.169.254 is an address of the
router. All this ends with the enclosure, except the nft table and, if the host's FORWARD policy is DROP, two iptables
rules; ``clear`` removes them. The next start of any sandbox on the host removes those of a killed one.

Only this host opens connections to guests: what other machines and namespaces send through it is dropped. The host has
to forward packets. If it did not before, the table ``goldenami_forwarding`` says so: it drops what the host would
forward between the links that it had, so that it is no router for others, and with the last sandbox the table goes and
forwarding is switched off again.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from goldenami_sandbox.errors import SandboxError
from goldenami_sandbox.node.command import attempt, run
from goldenami_sandbox.node.namespaces import in_network

_ALL = ipaddress.IPv4Network("198.18.0.0/15")
_SLOTS: list[ipaddress.IPv4Network] = list(_ALL.subnets(new_prefix=22))
_ID = re.compile("[0-9a-f]{8}")  # as namespaces.sandbox_id makes it
ROUTER = "router"
METADATA_ADDRESS = "169.254.169.254"
GUEST_LINK = "ens5"  # as Nitro instances call it
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_FORWARDING = "goldenami_forwarding"
_LOCK = Path("/run/goldenami-network.lock")


@dataclass(frozen=True, slots=True)
class Range:
    """The addresses of one sandbox. It computes only."""

    network: ipaddress.IPv4Network

    @property
    def guests(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network((self.network.network_address, 23))

    @property
    def gateway(self) -> ipaddress.IPv4Address:
        return self.guests[1]

    @property
    def host(self) -> ipaddress.IPv4Address:
        return self.network[-3]

    @property
    def uplink(self) -> ipaddress.IPv4Address:
        return self.network[-2]

    def guest(self, number: int) -> str:
        return str(self.guests[number])

    def number(self, address: str) -> int:
        return int(ipaddress.IPv4Address(address)) - int(self.guests[0])

    @property
    def numbers(self) -> range:
        """The numbers of guests. As in a VPC, the first few addresses and the last one are reserved."""
        return range(4, self.guests.num_addresses - 1)


class Network:
    """The network, from ``start`` to ``close``. ``preferred``: the last /22, which is used again if it is free."""

    def __init__(self, sandbox: str) -> None:
        self._sandbox = sandbox
        self._link = f"ga-{sandbox}"
        self.range = Range(_SLOTS[0])

    def start(self, preferred: str | None) -> None:
        _remove_stale_rules()
        remove_rules(self._sandbox)
        attempt("ip", "link", "delete", self._link)
        run("ip", "netns", "add", ROUTER)
        run("ip", "link", "add", self._link, "type", "veth", "peer", "name", "up0", "netns", ROUTER)
        self.range = self._claim(preferred)
        here = self.range
        _batch(
            f"address add {here.uplink}/30 dev up0",
            "link set lo up",
            "link set up0 up",
            "link add br0 type bridge forward_delay 0",
            f"address add {here.gateway}/23 dev br0",
            f"address add {METADATA_ADDRESS}/32 dev lo",
            "link set br0 up",
            f"route add default via {here.host}",
            namespace=ROUTER,
        )
        in_network(ROUTER, lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))
        run("ip", "netns", "exec", ROUTER, "nft", "-f", "-", stdin=_ROUTER_RULES)
        # First the rules, so that nothing comes in between.
        run("nft", "-f", "-", stdin=_rules(table(self._sandbox), here.network, self._link))
        _switch_forwarding_on()
        if "-P FORWARD DROP" in _iptables_forward():
            for direction in ("-i", "-o"):
                attempt("iptables", "-w", "-I", "FORWARD", direction, self._link, "-j", "ACCEPT")

    def close(self) -> None:
        attempt("ip", "link", "delete", self._link)
        attempt("ip", "netns", "delete", ROUTER)
        remove_rules(self._sandbox)
        _restore_forwarding()

    def connect(self, instance: str, address: str, pid: int, *, public: bool = True) -> None:
        """Give the network namespace of process ``pid`` the guest's link and address, and the name of the guest.

        ``public``: the host can connect to the guest.
        """
        self.disconnect(instance, address)
        if not public:
            self._private("add", address)
        port = f"v{self.range.number(address)}"
        run("ip", "netns", "attach", instance, str(pid))
        _batch(
            f"link add {port} type veth peer name {GUEST_LINK} address {mac(address)} netns {instance}",
            f"link set {port} master br0 up",
            namespace=ROUTER,
        )
        _batch(
            "link set lo up",
            f"address add {address}/23 broadcast + dev {GUEST_LINK}",
            f"link set {GUEST_LINK} up",
            f"route add default via {self.range.gateway}",
            namespace=instance,
        )

    def disconnect(self, instance: str, address: str) -> None:
        attempt("ip", "-n", ROUTER, "link", "delete", f"v{self.range.number(address)}")
        attempt("ip", "netns", "delete", instance)
        self._private("delete", address)

    def _private(self, verb: str, address: str) -> None:
        """Add an address to the private guests, or delete it. Deleting a missing one changes nothing."""
        element = ("element", "ip", "guests", "private", f"{{ {address} }}")
        change = run if verb == "add" else attempt
        change("ip", "netns", "exec", ROUTER, "nft", verb, *element)

    def _claim(self, preferred: str | None) -> Range:
        """Find a slot that no route of this host uses. Adding the route reserves it, because adding it twice fails."""
        taken = [
            ipaddress.IPv4Network(route["dst"])
            for route in json.loads(run("ip", "-json", "-4", "route", "show") or "[]")
            if route["dst"] != "default"
        ]
        first = zlib.crc32(self._sandbox.encode()) % len(_SLOTS)
        candidates = _SLOTS[first:] + _SLOTS[:first]
        if preferred is not None:
            candidates.insert(0, ipaddress.IPv4Network(preferred))
        for network in candidates:
            if any(network.overlaps(other) for other in taken):
                continue
            here = Range(network)
            run("ip", "address", "add", f"{here.host}/30", "dev", self._link)
            run("ip", "link", "set", self._link, "up")
            if attempt("ip", "route", "add", str(network), "via", str(here.uplink), "dev", self._link):
                return here
            run("ip", "address", "flush", "dev", self._link)
        raise SandboxError(
            f"all of {_ALL} is in use on this machine",
            hint="Stop another sandbox with `goldenami-sandbox down --name NAME`.",
        )


def mac(address: str) -> str:
    """Return a locally administered MAC that contains the address. As on EC2 it begins with 02 or 06."""
    return "06:5a:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)


def nameservers() -> list[str]:
    """Return the host's resolvers that a guest can use. Stubs on loopback are replaced by systemd-resolved's upstream
    servers.
    """
    for file in ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"):
        try:
            words = [line.split() for line in Path(file).read_text().splitlines()]
        except OSError:
            continue
        found = [w[1] for w in words if len(w) > 1 and w[0] == "nameserver" and _usable(w[1])]
        if found:
            return found
    return []


def _usable(server: str) -> bool:
    try:
        address = ipaddress.ip_address(server.partition("%")[0])
    except ValueError:
        return False
    return address.version == 4 and not address.is_loopback


def table(sandbox: str) -> str:
    return f"goldenami_{sandbox}"


def clear(sandbox: str) -> None:
    """Remove what a sandbox that is not running left on the host. What is missing is ignored."""
    remove_rules(sandbox)
    _restore_forwarding()


def remove_rules(sandbox: str) -> None:
    """Remove the rules of a sandbox, running or not. Missing rules are ignored."""
    attempt("nft", "delete", "table", "ip", table(sandbox))
    for line in _iptables_forward().splitlines():
        words = line.split()
        if f"ga-{sandbox}" in words and words[0] == "-A":
            attempt("iptables", "-w", "-D", *words[1:])


def _remove_stale_rules() -> None:
    """Remove the rules of sandboxes that were killed. Their link to the host ended with their router's namespace.

    A sandbox makes its link before its rules, and removes it first.
    """
    links = _links()
    for line in run("nft", "list", "tables").splitlines():
        sandbox = line.partition("table ip goldenami_")[2].strip()
        if _ID.fullmatch(sandbox) and f"ga-{sandbox}" not in links:
            remove_rules(sandbox)


def _links() -> set[str]:
    """Return the names of the host's links. /sys/class/net may be that of another network namespace."""
    return {str(link["ifname"]) for link in json.loads(run("ip", "-json", "link", "show") or "[]")}


def _switch_forwarding_on() -> None:
    """Let the host forward packets. If it did not, it must not become a router between the links that it has. Links
    that are made later, such as those of containers, belong to programs that rely on forwarding."""
    with _alone():
        if _FORWARD.read_text().strip() != "0":
            return
        old = ", ".join(f'"{link}"' for link in sorted(_links()) if not link.startswith("ga-"))
        run("nft", "-f", "-", stdin=_FORWARDING_RULES.format(table=_FORWARDING, links=old))
        _FORWARD.write_text("1")


def _restore_forwarding() -> None:
    """Switch forwarding off if a sandbox switched it on, and none runs any more."""
    with _alone():
        is_ours = attempt("nft", "list", "table", "ip", _FORWARDING)
        if is_ours and not any(link.startswith("ga-") for link in _links()):
            _FORWARD.write_text("0")
            attempt("nft", "delete", "table", "ip", _FORWARDING)


@contextmanager
def _alone() -> Iterator[None]:
    """Only one sandbox of the host at a time decides about forwarding. A sandbox makes its link before that."""
    with _LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _iptables_forward() -> str:
    try:
        return run("iptables", "-w", "-S", "FORWARD")
    except SandboxError:  # not installed or not usable, so it drops no packets
        return ""


def _rules(name: str, network: ipaddress.IPv4Network, link: str) -> str:
    # The clamp is for uplinks with a smaller MTU than the guests', where ICMP may be filtered.
    return f"""\
table ip {name} {{
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        ip saddr {network} ip daddr != {network} masquerade
    }}
    chain forward {{
        type filter hook forward priority filter;
        iifname "{link}" tcp flags syn tcp option maxseg size set rt mtu
        oifname "{link}" tcp flags syn tcp option maxseg size set rt mtu
        oifname "{link}" ct state established,related accept
        oifname "{link}" drop
    }}
}}
"""


_FORWARDING_RULES = """\
table ip {table} {{
    set old {{
        type ifname
        elements = {{ {links} }}
    }}
    chain forward {{
        type filter hook forward priority filter;
        iifname @old oifname @old drop
    }}
}}
"""


# In the router's namespace, with which it ends. Connections between guests pass the bridge and not this chain.
_ROUTER_RULES = """\
table ip guests {
    set private {
        type ipv4_addr
    }
    chain forward {
        type filter hook forward priority filter;
        ct state established,related accept
        iifname "up0" ip daddr @private drop
    }
}
"""


def _batch(*lines: str, namespace: str) -> None:
    commands: Iterable[str] = lines
    run("ip", "-n", namespace, "-batch", "-", stdin="\n".join(commands) + "\n")
