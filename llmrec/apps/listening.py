"""A port to listen at, and who can reach it."""

from __future__ import annotations

import errno
import ipaddress
import socket

from llmrec.errors import ConfigError

_BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises ConfigError where the address or port cannot be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
            listening.listen(_BACKLOG)  # now, not when the model is loaded: two servers would else find out late
        except OSError:
            listening.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} of {host} is taken by another program. Name another: --port {port % 65_535 + 1}."
            ) from error
        raise ConfigError(
            f"cannot listen at {host}, port {port}: {error.strerror or error}. Name another --host or --port."
        ) from error
    return listening


def is_this_computer(host: str) -> bool:
    """Whether only programs of this computer can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
