"""Runs a command without a network and records what it tries to send.

    python network_recorder.py REPORT COMMAND...

It must be the first process in a new network namespace of Linux (``unshare --net``) and may administer it. All
addresses are routed to the loopback interface, so nothing leaves the namespace, and a packet socket sees every packet
there. REPORT gets one line for each destination, such as ``tcp 192.0.2.1:443``. Traffic between loopback addresses is
left out, such as that of a program with its own server. The exit status is the command's.
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

_SIOCSIFFLAGS = 0x8914
_SIOCSIFADDR = 0x8916
_SIOCADDRT = 0x890B
_IFF_UP_RUNNING = 0x41
_ETH_P_ALL = 3
_ICMPV6 = 58
_PROTOCOLS = {6: "tcp", 17: "udp"}


def main() -> int:
    """Record what ``sys.argv[2:]`` sends into the file ``sys.argv[1]``."""
    _route_everything_to_loopback()
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
    packets.bind(("lo", 0))
    packets.settimeout(0.2)
    found: list[str] = []
    ended = threading.Event()
    recorder = threading.Thread(target=_record, args=(packets, found, ended))
    recorder.start()
    try:
        return subprocess.run(sys.argv[2:]).returncode
    finally:
        ended.set()
        recorder.join()
        Path(sys.argv[1]).write_text("".join(line + "\n" for line in found), encoding="utf-8")


def _route_everything_to_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP_RUNNING))
        # struct rtentry of linux/route.h: padding; destination, gateway, mask as sockaddr; flags; the device's name.
        anywhere = struct.pack("H14x", socket.AF_INET)
        name = bytearray(b"lo\0")
        pointer = _address(name)
        route = struct.pack("@L16s16s16sHhLPhPLLH", 0, anywhere, anywhere, anywhere, 1, 0, 0, 0, 0, pointer, 0, 0, 0)
        fcntl.ioctl(control, _SIOCADDRT, route)
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        return
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
        # struct in6_rtmsg of linux/ipv6_route.h: addresses, type, lengths, metric, info, flags, device.
        zero = bytes(16)
        address = struct.pack("@16sIi", ipaddress.ip_address("fd00::1").packed, 128, socket.if_nametoindex("lo"))
        fcntl.ioctl(control, _SIOCSIFADDR, address)
        route = struct.pack("@16s16s16sIHHILIi", zero, zero, zero, 0, 0, 0, 1, 0, 1, socket.if_nametoindex("lo"))
        fcntl.ioctl(control, _SIOCADDRT, route)


def _address(buffer: bytearray) -> int:
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def _record(packets: socket.socket, found: list[str], ended: threading.Event) -> None:
    while True:
        try:
            packet = packets.recv(65536)
        except TimeoutError:
            if ended.is_set():
                return
            continue
        line = _describe(packet)
        if line and line not in found:
            found.append(line)


def _describe(packet: bytes) -> str:
    """Protocol, destination and port, or nothing for loopback addresses."""
    version = packet[0] >> 4
    if version == 4:
        length, protocol = (packet[0] & 15) * 4, packet[9]
        source, target = packet[12:16], packet[16:20]
    elif version == 6:
        if packet[6] == _ICMPV6:  # the kernel's own; its "unreachable" holds the packet that was refused
            return _describe(packet[48:]) if packet[40] == 1 else ""
        length, protocol = 40, packet[6]
        source, target = packet[8:24], packet[24:40]
    else:
        return f"a packet of protocol version {version}"
    to = ipaddress.ip_address(target)
    if to.is_loopback and ipaddress.ip_address(source).is_loopback and packet[length + 2 : length + 4] != b"\0\x35":
        return ""
    name = _PROTOCOLS.get(protocol, f"protocol {protocol}")
    return f"{name} {to}:{int.from_bytes(packet[length + 2 : length + 4], 'big')}"


if __name__ == "__main__":
    sys.exit(main())
