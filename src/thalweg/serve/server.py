"""The server: an address that is free and meant, and a loop that serves it."""

from __future__ import annotations

import errno
import ipaddress
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from thalweg.core.errors import UsageError
from thalweg.serve.application import application

PORT = 8765


def serve(
    folder: Path,
    host: str = "127.0.0.1",
    port: int = PORT,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the live page of the race in a folder until interrupted.

    On the loopback whoever works on this machine may look. On any other address the page needs a
    random token, new at every start; it travels unencrypted, so that a tunnel (``ssh -L``) to the
    loopback is the better way over a network that others share.

    Args:
        folder: the race's folder.
        host: the address to listen on.
        port: the port; 0 takes a free one.
        on_ready: is told the address to open, token included, when the server listens.

    Raises:
        UsageError: there is no race, or the address cannot be listened on.
    """
    listener, loopback = listen(host, port)
    with listener:
        token = None if loopback else secrets.token_urlsafe(32)
        own = host if ":" not in host else f"[{host}]"
        everywhere = own in ("0.0.0.0", "[::]")
        name = socket.gethostname() if everywhere else own
        app = application(
            folder,
            hosts=() if loopback and everywhere else (own, socket.gethostname()),
            any_address=not loopback,
            token=token,
        )
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # it would write the token down
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=1,  # or open pages would keep it from stopping
        )
        address = f"http://{name}:{listener.getsockname()[1]}/"
        if on_ready is not None:
            on_ready(address if token is None else f"{address}?token={token}")
        uvicorn.Server(config).run(sockets=[listener])


def listen(host: str, port: int) -> tuple[socket.socket, bool]:
    """Return a socket that listens there, and whether it is the loopback's.

    Raises:
        UsageError: the port or the address cannot be used.
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"a port is a whole number from 0 to 65535, found {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f'cannot listen on "{host}": {error}; use an address of this machine, such as '
            "127.0.0.1, or 0.0.0.0 for all of them"
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise UsageError(_why(error, host, port)) from error
    return listener, ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is in use; stop what uses it, or choose another with --port "
            "(0 takes a free one)"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"no permission to listen on port {port}; choose one above 1023 with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine; use one that is, or 127.0.0.1"
    return f"cannot listen on port {port} of {host}: {error.strerror or error}"
