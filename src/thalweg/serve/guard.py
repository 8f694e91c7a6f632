"""Who may ask: checks of every request, before anything else sees it.

* The ``Host`` header has to name this server. A page of another site that has its own name
  resolve to this machine (DNS rebinding) sends that name, and is refused.
* With a token, the request has to bring it: as ``?token=``, which leaves it in a cookie, as that
  cookie, or as ``Authorization: Bearer``.
* Every answer forbids the browser to load anything from elsewhere, to show the page in a frame, to
  keep it, and to tell others its address.
"""

import hmac
import ipaddress
import re
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
COOKIE = "thalweg-token"

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]{1,5})?", re.ASCII)
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """Passes on the requests that may be answered.

    Args:
        app: what answers.
        hosts: names that the ``Host`` header may hold beside the loopback's, without a port (a
            tunnel may have another one).
        any_address: whether it may also hold any address written in numbers, which no name server
            can give away.
        token: what a request has to bring, or None.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Iterable[str] = (),
        any_address: bool = False,
        token: str | None = None,
    ) -> None:
        self._app = app
        self._hosts = {host.lower() for host in (*LOOPBACK, *hosts)}
        self._any_address = any_address
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a web socket
            await send({"type": "websocket.close", "code": 1008})
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        answer: ASGIApp = self._refusal(scope) or self._app
        await answer(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        named = headers.getlist("host")
        if len(named) != 1 or not self._knows(named[0]):
            text = "This server does not go by that name: the Host header is foreign or missing."
            return PlainTextResponse(text, 400)
        if self._token is None:
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if len(given) == 1 and self._right(given[0]):
            # The address bar and the history are no place for a secret.
            response = RedirectResponse("/", 303)
            response.set_cookie(COOKIE, given[0], httponly=True, samesite="lax", path="/")
            return response
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._right(bearer.strip()):
            return None
        if not given and self._right(_cookie(headers)):
            return None
        text = (
            "This page needs the token that `thalweg serve` printed: open the whole address, with "
            "?token=... at its end."
        )
        return PlainTextResponse(text, 401, {"www-authenticate": "Bearer"})

    def _knows(self, header: str) -> bool:
        found = _HOST.fullmatch(header.lower())
        if found is None:
            return False
        host = found[1]
        return host in self._hosts or (self._any_address and _is_address(host))

    def _right(self, token: str) -> bool:
        # In a time that tells nothing about how much of it was right.
        return self._token is not None and hmac.compare_digest(token.encode(), self._token.encode())


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
