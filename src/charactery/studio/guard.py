"""Who may use the studio: pages of its own on this machine, or who has the token.

Another site's page can make a browser send requests here. It cannot know the key that our pages send along, its Origin
is another, and a name of its own that it points at this machine is no name of ours.
"""

import hmac
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))
UPLOADS = {"/import": 200_000_000, "/runs/open": 4_000_000_000}  # bytes of a file that a page takes in
FORM, MARGIN = 50_000_000, 1_000_000  # bytes of any other form, and of what is around a file
KEY = "x-charactery"
COOKIE = "charactery"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer",
    "x-frame-options": "DENY", "cross-origin-opener-policy": "same-origin", "cache-control": "no-store",
}  # fmt: skip


class Guard:
    """In front of the whole application. `token` is asked of everybody where it is given; `key` of every change."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] = LOOPBACK, token: str | None = None) -> None:
        self.app, self.hosts, self.token = app, hosts, token
        self.key = secrets.token_urlsafe(24)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        scope.setdefault("state", {})["key"] = self.key

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = {name.lower() for name, _ in message["headers"]}
                extra = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in kept]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        refused = self.refusal(scope, headers)
        await (refused or self.app)(scope, receive, sealed)

    def refusal(self, scope: Scope, headers: dict[str, str]) -> Response | None:
        """What a request gets that may not go through, or None."""
        host = headers.get("host", "")
        if self.token is None and _name(host) not in self.hosts:
            return PlainTextResponse(f"this studio does not answer to the name {_name(host)!r}", 421)
        if self.token is not None and (asked := self._token(scope, headers, self.token)):
            return asked
        if scope["method"] in ("GET", "HEAD"):
            return None
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not (length.isascii() and length.isdigit()):
            return PlainTextResponse("a request has to say how long it is", 411)
        if int(length) > _room(scope["path"]):
            return PlainTextResponse(f"this is too large: at most {_room(scope['path']) / 1e6:,.0f} MB are taken", 413)
        origin = headers.get("origin")
        if origin is not None and _netloc(origin) != host:
            return PlainTextResponse(f"this came from another site's page ({origin})", 403)
        if not hmac.compare_digest(headers.get(KEY, "").encode(), self.key.encode()):
            return PlainTextResponse("this did not come from a page of this studio; load the page anew", 403)
        return None

    def _token(self, scope: Scope, headers: dict[str, str], token: str) -> Response | None:
        name = _cookie_name(headers.get("host", ""))
        if hmac.compare_digest(_cookie(name, headers.get("cookie", "")).encode(), token.encode()):
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not hmac.compare_digest(given.encode(), token.encode()):
            return PlainTextResponse("this studio asks for its token: open the address it printed", 401)
        answer = RedirectResponse(scope["path"], 303)
        answer.set_cookie(name, token, httponly=True, samesite="strict")
        return answer


def _name(host: str) -> str:
    """The name in a Host header, without the port; "" where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _netloc(origin: str) -> str:
    """The host in an Origin, with the port; "" where it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _cookie_name(host: str) -> str:
    """By the port, which cookies themselves take no notice of: each studio of a machine has its own."""
    port = host.rpartition(":")[2]
    return f"{COOKIE}-{port}" if port.isascii() and port.isdigit() else COOKIE


def _cookie(name: str, header: str) -> str:
    """Our cookie among those that other programs on this machine have set, which may be of any form."""
    ours = [part.strip() for part in header.split(";") if part.strip().startswith(f"{name}=")]
    try:
        return SimpleCookie(ours[-1])[name].value if ours else ""
    except (CookieError, KeyError):
        return ""


def _room(path: str) -> int:
    """Bytes that a request to an address may send."""
    return next((most for end, most in UPLOADS.items() if path.endswith(end)), FORM) + MARGIN
