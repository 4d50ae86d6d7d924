"""What every request passes: the rules of access before, protective headers and readable errors after."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from edge_mnv2.errors import RequestError
from edge_mnv2.web.access import GUESS_DELAY_S, Access, given_tokens, is_foreign, is_same_origin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web
    from aiohttp.typedefs import Middleware

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# These hold no secret: the page that asks for the token looks like the others, and a watchdog has no token.
_OPEN = frozenset({"/healthz", "/page.css", "/icon.svg"})

# Where the page that asks for the token says what was wrong with the last one.
_PROBLEM = b'<p class="problem" role="alert">'

_HEADERS = {
    "Server": "edge-mnv2",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


_log = logging.getLogger(__name__)


def make_guard(access: Access, locked_page: bytes) -> Middleware:
    """Return the middleware that lets a request through, or answers it.

    Args:
        access: The rules.
        locked_page: HTML that asks a browser for the token.
    """
    from aiohttp import web

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            refusal = _refusal(access, request)
            if refusal is None and access.needs_token:
                refusal = await _check_token(access, request, locked_page)
            return refusal or await handler(request)
        except RequestError as error:
            return answer_error(request, 400, str(error))
        except web.HTTPException as error:
            response = answer_error(request, error.status, error.text or error.reason)
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
            return response
        except ConnectionError:  # the caller has left
            raise
        except web.RequestPayloadError:
            return answer_error(request, 400, "The body cannot be read.")
        except Exception:  # noqa: BLE001 - logged here, and without what would give the token away
            # Without the query: it may hold the token.
            _log.exception("the live view failed at %s %s", request.method, request.path)
            return answer_error(request, 500, "The live view has failed at this; the log says more.")

    return guard


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Add the headers that keep a browser from doing harm with an answer."""
    response.headers.update(_HEADERS)


def answer_error(request: web.Request, status: int, text: str) -> web.Response:
    """Return an error as the caller reads it: JSON from the API, else plain text."""
    from aiohttp import web

    if request.path.startswith("/api/") or request.path == "/healthz":
        return web.json_response({"error": text}, status=status)
    return web.Response(text=f"{text}\n", status=status)


def is_trusted(request: web.Request, access: Access) -> bool:
    """Return whether a request to an open path may see details, too."""
    return not access.needs_token or _is_known(access, request)


def _is_known(access: Access, request: web.Request) -> bool:
    tokens = given_tokens(request.query, request.headers.get("Authorization"))
    # All of them: how long it takes shall not say which one was right.
    return any([access.has_session(request.cookies), *map(access.is_token, tokens)])


def _refusal(access: Access, request: web.Request) -> web.Response | None:
    """Answer a request that comes by a wrong name or from somebody else's page."""
    host = request.headers.get("Host")
    if not access.is_own_name(host):
        return answer_error(
            request,
            403,
            f"This server is not called {(host or '')[:80]!r}: use its IP address, or start it with "
            "--web-names.",
        )
    fetch = request.headers.get("Sec-Fetch-Site"), request.headers.get("Sec-Fetch-Mode")
    if is_foreign(*fetch):
        return answer_error(request, 403, "Another page may not use this one.")
    if request.method not in {"GET", "HEAD"}:
        if not is_same_origin(request.headers.get("Origin"), host):
            return answer_error(request, 403, "Another page may not change anything here.")
        if request.content_type != "application/json":
            return answer_error(request, 415, "Send JSON, as Content-Type: application/json.")
    return None


async def _check_token(access: Access, request: web.Request, locked_page: bytes) -> web.Response | None:
    """Let the cookie or a right token through; turn a token in a browser's address line into a cookie."""
    from aiohttp import web

    is_page = request.method == "GET" and "text/html" in request.headers.get("Accept", "")
    if not _is_known(access, request):
        if not given_tokens(request.query, request.headers.get("Authorization")):
            if request.path in _OPEN:
                return None
            return _locked(
                request, locked_page if is_page else None, "A token is needed: add ?token=TOKEN once."
            )
        # Only who is wrong is held back, or a stranger's guesses would keep the owner out.
        if not access.may_guess:
            return answer_error(request, 429, "Too many wrong tokens: wait a second.")
        access.note_wrong()
        try:
            await asyncio.sleep(GUESS_DELAY_S)
        finally:
            access.forget_wrong()
        told = locked_page.replace(_PROBLEM, _PROBLEM + b"The token is wrong.")
        return _locked(request, told if is_page else None, "The token is wrong.")
    if not is_page or "token" not in request.query:
        return None
    # The address line, the history and a bookmark shall not keep the token.
    rest = [(key, value) for key, value in request.query.items() if key != "token"]
    where = request.rel_url.with_path("/" + request.path.lstrip("/")).with_query(rest)
    response = web.Response(status=303, headers={"Location": str(where)})
    response.set_cookie(access.cookie_name, access.cookie_value, httponly=True, samesite="Strict", path="/")
    return response


def _locked(request: web.Request, page: bytes | None, text: str) -> web.Response:
    from aiohttp import web

    if page is None:
        response = answer_error(request, 401, text)
    else:
        response = web.Response(body=page, status=401, content_type="text/html", charset="utf-8")
    response.headers["WWW-Authenticate"] = "Bearer"
    return response
