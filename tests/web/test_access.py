from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from edge_mnv2.errors import RequestError
from edge_mnv2.web import WebAddress, WebOptions, WebServer
from edge_mnv2.web.access import Access, given_tokens, host_name, is_foreign, is_same_origin, read_token
from edge_mnv2.web.address import own_names
from tests.web.scene import TOKEN, Scene, scene

PROTECTED = ["/", "/page.js", "/charts.js", "/stream.mjpg", "/api/state", "/api/detections", "/snapshot.jpg"]


@pytest.fixture
def locked() -> Iterator[Scene]:
    with scene(token=TOKEN) as made:
        yield made


async def get(url: str, **options: object) -> tuple[int, str, aiohttp.typedefs.LooseHeaders]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, allow_redirects=False, **options) as answer,  # type: ignore[arg-type]
    ):
        return answer.status, await answer.text(errors="replace"), answer.headers


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.9", "camera.local"])
def test_a_network_gets_no_picture_without_a_token(host: str) -> None:
    with pytest.raises(
        RequestError, match=r"give a token as well.* This makes one: python3 -c 'import secrets"
    ):
        WebServer.start(WebAddress(host, 0))


@pytest.mark.parametrize("token", ["", "short", "fifteen-letters"])
def test_a_token_that_can_be_guessed_is_refused(token: str) -> None:
    with pytest.raises(RequestError, match="too short to be safe"):
        WebServer.start(WebAddress("127.0.0.1", 0), WebOptions(token=token))


def test_a_token_must_fit_into_a_header() -> None:
    with pytest.raises(RequestError, match="plain ASCII"):
        WebServer.start(WebAddress("127.0.0.1", 0), WebOptions(token="ümlaut" * 5))


def test_a_token_comes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    assert read_token(path) == TOKEN
    with pytest.raises(RequestError, match=r"cannot be read from .*: No such file"):
        read_token(tmp_path / "nothing")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match="it is no text"):
        read_token(path)


def test_aiohttp_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(RequestError, match=r"pip install 'edge-mnv2\[web\]'"):
        WebServer.start(WebAddress("127.0.0.1", 0))


@pytest.mark.parametrize("path", PROTECTED)
def test_every_route_asks_for_the_token(locked: Scene, path: str) -> None:
    status, text, headers = asyncio.run(get(locked.url + path))
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")  # type: ignore[index, call-overload]
    assert "A token is needed" in text
    wrong = asyncio.run(get(f"{locked.url}{path}?token={TOKEN}x"))
    assert (wrong[0], "The token is wrong." in wrong[1]) == (401, True)
    assert not locked.is_watched("door")


def test_changing_asks_for_the_token(locked: Scene) -> None:
    async def post() -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{locked.url}/api/decoder", json={"threshold": 0.4}) as answer,
        ):
            return answer.status

    assert asyncio.run(post()) == 401
    assert not locked.decoders["door"].changes


def test_the_right_token_opens_in_both_ways(locked: Scene) -> None:
    url = f"{locked.url}/api/state"
    assert asyncio.run(get(f"{url}?token={TOKEN}"))[0] == 200
    assert asyncio.run(get(url, headers={"Authorization": f"Bearer {TOKEN}"}))[0] == 200
    assert asyncio.run(get(url, headers={"Authorization": f"Basic {TOKEN}"}))[0] == 401


def test_a_browser_gets_a_cookie_and_an_address_without_the_token(locked: Scene) -> None:
    async def visit() -> None:
        headers = {"Accept": "text/html"}
        jar = aiohttp.CookieJar(unsafe=True)  # cookies of IP addresses
        async with aiohttp.ClientSession(cookie_jar=jar) as session:
            url = f"{locked.url}/?camera=door&token={TOKEN}"
            async with session.get(url, headers=headers, allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (303, "/?camera=door")
                cookie = answer.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            assert TOKEN not in cookie
            async with session.get(f"{locked.url}/api/state") as answer:
                assert answer.status == 200
            async with session.get(f"{locked.url}/") as answer:
                assert "<!doctype html>" in await answer.text()
        name = cookie.split("=")[0]
        async with (
            aiohttp.ClientSession(cookies={name: "made-up"}) as session,
            session.get(f"{locked.url}/api/state") as answer,
        ):
            assert answer.status == 401

    asyncio.run(visit())


def test_a_redirect_never_leaves_this_server(locked: Scene) -> None:
    url = f"{locked.url}//evil.example/?token={TOKEN}"
    status, _, headers = asyncio.run(get(url, headers={"Accept": "text/html"}))
    assert (status, headers["Location"]) == (303, "/evil.example/")  # type: ignore[index, call-overload]


def test_a_browser_without_the_token_is_asked_for_it(locked: Scene) -> None:
    status, text, _ = asyncio.run(get(f"{locked.url}/", headers={"Accept": "text/html"}))
    assert status == 401
    assert '<input id="token"' in text
    assert "The token is wrong." not in text
    status, text, _ = asyncio.run(get(f"{locked.url}/?token=wrong", headers={"Accept": "text/html"}))
    assert status == 401
    assert '<p class="problem" role="alert">The token is wrong.</p>' in text
    assert asyncio.run(get(f"{locked.url}/page.css"))[0] == 200


def test_a_watchdog_needs_no_token_but_learns_no_detail(locked: Scene) -> None:
    assert asyncio.run(get(f"{locked.url}/healthz"))[:2] == (503, '{"ok": false}')
    assert "door" in asyncio.run(get(f"{locked.url}/healthz?token={TOKEN}"))[1]


def test_who_guesses_does_not_lock_out_who_knows(locked: Scene) -> None:
    """While more wrong tokens come than may wait, the right one opens at once in every way."""

    async def attack() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            url = f"{locked.url}/api/state"
            answers: list[int] = []
            is_over = asyncio.Event()

            async def guess(number: int) -> None:
                while not is_over.is_set():
                    async with session.get(f"{url}?token=guess-{number}") as answer:
                        answers.append(answer.status)

            guesses = [asyncio.ensure_future(guess(number)) for number in range(20)]
            while 429 not in answers:
                await asyncio.sleep(0.01)
            jar = aiohttp.CookieJar(unsafe=True)
            async with aiohttp.ClientSession(cookie_jar=jar) as owner:
                async with owner.get(url, headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
                    assert answer.status == 200
                async with owner.get(f"{locked.url}/healthz?token={TOKEN}") as answer:
                    assert "door" in await answer.text()
                async with owner.get(
                    f"{locked.url}/?token={TOKEN}", headers={"Accept": "text/html"}
                ) as answer:
                    assert answer.status == 200
                for _ in range(20):
                    async with owner.get(url) as answer:
                        assert answer.status == 200
                # An old bookmark does not matter to who has the cookie.
                async with owner.get(f"{url}?token=of-last-week") as answer:
                    assert answer.status == 200
            assert set(answers) == {401, 429} or set(answers) == {429}
            is_over.set()
            await asyncio.gather(*guesses)
            assert set(answers) == {401, 429}

    asyncio.run(attack())


def test_so_many_wrong_tokens_wait_for_their_answer() -> None:
    access = Access(WebAddress("0.0.0.0", 8080), TOKEN)
    for _ in range(8):
        assert access.may_guess
        access.note_wrong()
    assert not access.may_guess
    assert access.is_token(TOKEN)
    access.forget_wrong()
    assert access.may_guess


@pytest.mark.parametrize("given", ["", "a-token", f"{TOKEN} ", TOKEN.upper(), "\udcff\ud800", "ü"])
def test_only_the_token_is_the_token(given: str) -> None:
    access = Access(WebAddress("0.0.0.0", 8080), TOKEN)
    assert access.is_token(TOKEN)
    assert not access.is_token(given)
    assert not access.has_session({access.cookie_name: given})
    assert not Access(WebAddress(), None).is_token(given)


@pytest.mark.parametrize(
    ("address", "host", "is_own"),
    [
        *(
            ("127.0.0.1", name, True)
            for name in ("127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080")
        ),
        # The near end of a tunnel.
        ("127.0.0.1", "localhost:9000", True),
        *(
            ("127.0.0.1", name, False)
            for name in (
                "evil.example:8080",
                "127.0.0.1.evil.example",
                "192.168.1.9:8080",
                "0.0.0.0:8080",
                "",
            )
        ),
        *(("127.0.0.1", name, False) for name in ("a@localhost", "localhost/x", "[::1")),
        *(("0.0.0.0", name, True) for name in ("192.168.1.9:8080", "[fe80::1]:8080", "localhost:8080")),
        *(("0.0.0.0", name, False) for name in ("evil.example:8080", "nip.192.168.1.9.io")),
        ("camera.example", "camera.example:8080", True),
        ("camera.example", "other.example:8080", False),
        ("0.0.0.0", "proxy.example", True),
    ],
)
def test_a_server_answers_to_its_own_names_alone(address: str, host: str, is_own: bool) -> None:
    access = Access(WebAddress(address, 8080), TOKEN, ["Proxy.example"])
    assert access.is_own_name(host) is is_own


def test_a_network_server_answers_to_the_machines_names() -> None:
    access = Access(WebAddress("0.0.0.0", 8080), TOKEN)
    assert all(access.is_own_name(f"{name}:8080") for name in own_names())


@pytest.mark.parametrize("path", [*PROTECTED, "/healthz", "/page.css"])
def test_a_rebound_name_is_refused_everywhere(path: str) -> None:
    with scene() as made:
        status, text, _ = asyncio.run(get(made.url + path, headers={"Host": "evil.example"}))
        assert status == 403
        assert "This server is not called 'evil.example'" in text


@pytest.mark.parametrize(
    ("origin", "is_same"),
    [
        *((None, True), ("http://localhost:8080", True), ("https://localhost:8080", True)),
        *(("http://localhost:8081", False), ("http://evil.example", False), ("null", False), ("", False)),
        *(("http://", False), ("file://localhost:8080", False), ("http://[", False)),
    ],
)
def test_only_our_own_page_may_change_something(origin: str | None, is_same: bool) -> None:
    assert is_same_origin(origin, "localhost:8080") is is_same


@pytest.mark.parametrize(
    ("site", "mode", "is_other"),
    [
        *(("cross-site", "no-cors", True), ("same-site", "cors", True)),
        *(
            ("cross-site", "navigate", False),
            ("same-origin", "cors", False),
            (None, None, False),
            ("none", "x", False),
        ),
    ],
)
def test_another_page_may_link_here_but_not_embed_us(
    site: str | None, mode: str | None, is_other: bool
) -> None:
    assert is_foreign(site, mode) is is_other


def test_another_page_cannot_embed_the_stream() -> None:
    with scene() as made:
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        assert asyncio.run(get(f"{made.url}/stream.mjpg", headers=headers))[0] == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({}, 415),
    ],
)
def test_what_a_foreign_form_can_send_changes_nothing(headers: dict[str, str], status: int) -> None:
    with scene() as made:

        async def post() -> int:
            json_type = {} if "Origin" not in headers else {"Content-Type": "application/json"}
            async with (
                aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as session,
                session.post(
                    f"{made.url}/api/decoder", data=b'{"threshold": 0.4}', headers={**json_type, **headers}
                ) as answer,
            ):
                return answer.status

        assert asyncio.run(post()) == status
        assert len(made.decoders["door"].changes) == (status == 200)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("HEAD", "/", {}, 200),
        ("HEAD", "/api/state", {}, 200),
        # Nothing that goes on, or is encoded, for somebody who wants no body.
        *(("HEAD", path, {}, 405) for path in ("/stream.mjpg", "/snapshot.jpg", "/api/detections")),
        # What a browser asks before it lets another page send JSON: it gets no leave.
        ("OPTIONS", "/api/decoder", {"Origin": "http://evil.example"}, 403),
        ("OPTIONS", "/api/decoder", {}, 415),
        *(
            (method, "/api/decoder", {"Content-Type": "application/json"}, 405)
            for method in ("PUT", "DELETE")
        ),
        ("TRACE", "/", {"Content-Type": "application/json"}, 405),
        ("POST", "/", {"Content-Type": "application/json"}, 405),
    ],
)
def test_other_methods_get_nothing(method: str, path: str, headers: dict[str, str], status: int) -> None:
    with scene() as made:

        async def ask() -> None:
            async with (
                aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as session,
                session.request(method, made.url + path, headers=headers) as answer,
            ):
                assert answer.status == status
                assert not any(name.startswith("Access-Control") for name in answer.headers)
                assert answer.headers["X-Content-Type-Options"] == "nosniff"

        asyncio.run(ask())
        assert not made.is_watched("door")
        assert not made.decoders["door"].changes


def test_token_and_host_are_read() -> None:
    assert given_tokens({"token": "a"}, "Bearer b") == ["a", "b"]
    assert given_tokens({}, "bearer  b ") == ["b"]
    assert given_tokens({}, None) == given_tokens({}, "Basic b") == []
    assert host_name("Camera.Local.:80") == "camera.local"
