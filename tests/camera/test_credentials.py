from __future__ import annotations

import contextlib
import re
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from camera import CameraError
from camera.credentials import uri_without_credentials, without_credentials
from camera.uri import Uri, parse_uri, raw_source

FIRST, LAST = "Qx7", "zW9"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://user:secret@host:554/stream", "rtsp://***@host:554/stream"),
        ("rtsp://user@host/stream", "rtsp://***@host/stream"),
        ("rtsp://user:@host/stream", "rtsp://***@host/stream"),
        ("rtsp://u:p@ss@[fe80::1%25eth0]:554/x", "rtsp://***@[fe80::1%25eth0]:554/x"),
        ("rtsp://[::1]:554/x", "rtsp://[::1]:554/x"),
        ("rtsp://host:554/stream?channel=1", "rtsp://host:554/stream?channel=1"),
        ("http://h/video?token=abc&fps=5", "http://h/video?token=***&fps=5"),
        ("http://h/video?user=joe&pwd=a%26b&res=1", "http://h/video?user=joe&pwd=***&res=1"),
        ("http://h/v?access_key=1;x&apikey=2&api_key=3", "http://h/v?access_key=***&apikey=***&api_key=***"),
        ("http://h/v?monkey=1&key=2#timeout=3", "http://h/v?monkey=1&key=***#timeout=3"),
        ("http://h/cgi?loginuse=u&loginpas=p", "http://h/cgi?loginuse=u&loginpas=***"),
        ("rtsp://h/user=admin_password=tl_Jw_channel=1", "rtsp://h/user=admin_password=***"),
        ("http://h/cgi?cmd=snap&psd=p&page=2", "http://h/cgi?cmd=snap&psd=***&page=2"),
        ("http://h/v?jwt=a.b.c&code=1&x=2", "http://h/v?jwt=***&code=***&x=2"),
        ("http://h/v?session=1&sid=2&PHPSESSID=3", "http://h/v?session=***&sid=***&PHPSESSID=***"),
        ("http://h/v?pass%77ord=a&p%61ge=2", "http://h/v?pass%77ord=***&p%61ge=2"),
        ("rtsp://host:65535", "rtsp://host:65535"),
        ("rtsp://host:99999/x", "rtsp://host:99999/x"),
        ("rtsp://admin:123456/x", "rtsp://admin:***"),
        ("rtsp://host:/x", "rtsp://host:/x"),
        ("http://[fe80::1]:8080?channel=1", "http://[fe80::1]:8080?channel=1"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert parse_uri(text).shown == shown
    assert uri_without_credentials(text) == shown
    assert without_credentials(text) == shown
    assert without_credentials(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "[tcp @ 0x55] Failed to open 'rtsp://u:p@h/x': Connection refused",
            "[tcp @ 0x55] Failed to open 'rtsp://***@h/x': Connection refused",
        ),
        (
            "rtspsrc location=rtsp://u:p@h/x user-pw=12 ! fakesink",
            "rtspsrc location=rtsp://***@h/x user-pw=*** ! fakesink",
        ),
        ('rtspsrc user-pw="a b" ! srtsrc passphrase=x', "rtspsrc user-pw=*** ! srtsrc passphrase=***"),
        ("rtspsrc user-pw = s3cr ! decodebin", "rtspsrc user-pw = *** ! decodebin"),
        (r"rtspsrc user-pw=a\ s3cr\ b ! decodebin", "rtspsrc user-pw=*** ! decodebin"),
        (r'rtspsrc user-pw= "a\" s3cr" ! decodebin', "rtspsrc user-pw= *** ! decodebin"),
        ("rtspsrc user-pw=(string) s3cr ! decodebin", "rtspsrc user-pw=*** ! decodebin"),
        ('souphttpsrc cookies="sid=s3cr; a=b" ! decodebin', "souphttpsrc cookies=*** ! decodebin"),
        ("GET /\r\nCookie: sid=s3cr; a=b\r\nHost: h", "GET /\r\nCookie: ***\r\nHost: h"),
        ("replay session=a.session ended with code=3", "replay session=a.session ended with code=3"),
        ("x264enc key-int-max=30 ! rtph264pay pt=96", "x264enc key-int-max=30 ! rtph264pay pt=96"),
        ("DESCRIBE\r\nAuthorization: Basic dTpw\r\nCSeq: 1", "DESCRIBE\r\nAuthorization: ***\r\nCSeq: 1"),
        ("from u:p@h and rtsps://v:q@i.", "from ***@h and rtsps://***@i."),
        ("rtsp://admin:geheim17", "rtsp://admin:***"),
        ("rtsp://admin:99999", "rtsp://admin:99999"),
        ("rtsp://admin:123456", "rtsp://admin:***"),
        ("HTTPS://admin:554x/stream?a=b", "HTTPS://admin:***"),
        ("http://u:p@ss:word", "http://***@ss:***"),
        ("rtsp://[::1]:geheim17", "rtsp://[::1]:***"),
        ("cannot open 'rtsp://admin:geheim17': no route", "cannot open 'rtsp://admin:*** no route"),
        ("rtsp://host:554: timed out (http://h:80).", "rtsp://host:554: timed out (http://h:80)."),
        ("rtsp://host: timed out, see 'rtsp://host:554'", "rtsp://host: timed out, see 'rtsp://host:554'"),
        ("test://a:b gst://x:y!z", "test://a:b gst://x:y!z"),
        ("nothing to hide: 12:30, a@b", "nothing to hide: 12:30, a@b"),
    ],
)
def test_messages_of_others(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def spoken_of(text: str) -> list[str]:
    """Return everything that is said of a URI."""
    said = [uri_without_credentials(text)]
    with contextlib.suppress(CameraError):
        uri = parse_uri(text)
        said += [uri.shown, repr(uri)]
    try:
        raw_source(text)
    except CameraError as error:
        said.append(str(error))
    return said


def assert_never_told(text: str, password: str) -> None:
    """Neither end of the password is in what is said of a URI, also in a longer message that quotes it."""
    said = spoken_of(text)
    if not any(character.isspace() for character in password):
        said.append(
            without_credentials(f"[rtsp @ 0x1] Cannot open {text}: {text!r} (error -5), see <{text}>")
        )
    for words in said:
        assert FIRST not in words
        assert LAST not in words


@given(
    st.sampled_from(["rtsp", "rtsps", "http", "https", "rstp", "RTSP"]),
    st.text(max_size=20),
    st.booleans(),
    st.sampled_from(["host", "host:554", "[::1]", "192.168.1.7:8554"]),
    st.sampled_from(["", "/stream", "/a/b?channel=1", "/x#transport=udp"]),
)
@example("rtsp", "@/%#?: \n", False, "host", "/stream")
@example("rtsp", "/", False, "host", "")
@example("rtsp", "#transport=", False, "host", "/x")
def test_a_password_never_survives(scheme: str, middle: str, encoded: bool, host: str, path: str) -> None:
    password = f"{FIRST}{middle}{LAST}"
    if encoded:
        password = quote(password, safe="")
    text = f"{scheme}://user:{password}@{host}{path}"
    assert_never_told(text, password)


@given(
    st.sampled_from(["rtsp", "rtsps", "http", "https", "RTSP"]),
    st.text(max_size=20),
    st.booleans(),
    st.sampled_from(["", "/stream", "/a/b?channel=1", "#transport=udp"]),
)
def test_a_password_survives_no_forgotten_host(scheme: str, middle: str, encoded: bool, path: str) -> None:
    assume(encoded or "@" not in middle)  # what follows it may be a host
    password = f"{FIRST}{middle}{LAST}"
    if encoded:
        password = quote(password, safe="")
    text = f"{scheme}://admin:{password}{path}"
    assert_never_told(text, password)


@given(
    st.integers(0, 99999),
    st.sampled_from(["", "/", "/x", "?a=b", "#timeout=1", ".", "',", ")", ": no", " x"]),
)
def test_a_port_is_no_password(port: int, behind: str) -> None:
    for host in ("host", "10.0.0.7", "[fe80::1%25eth0]"):
        text = f"rtsp://{host}:{port}{behind}"
        assert without_credentials(text) == text
        assert uri_without_credentials(text) == text


@given(st.text(max_size=20))
def test_a_password_survives_no_forgotten_scheme(middle: str) -> None:
    for words in spoken_of(f"user:{FIRST}{middle}{LAST}@host/stream"):
        assert FIRST not in words
        assert LAST not in words


@given(
    st.sampled_from(
        ["password", "token", "PWD", "auth", "api_key", "user_pw", "psd", "sid", "session", "jwt", "code"]
    ),
    st.sets(st.integers(0, 7)),
    st.text(max_size=20),
)
def test_a_secret_in_a_query_never_survives(key: str, encoded: set[int], middle: str) -> None:
    key = "".join(f"%{ord(one):02x}" if index in encoded else one for index, one in enumerate(key))
    text = f"http://host/video?size=1&{key}={quote(FIRST + middle + LAST, safe='')}&x=2"
    for words in (*spoken_of(text), without_credentials(f"cannot open {text}.")):
        assert FIRST not in words
        assert LAST not in words


@given(
    st.sampled_from(["user-pw", "proxy-pw", "passphrase", "cookies"]),
    st.sampled_from(["=", " =", "= ", " = ", "\t=\t", "=(string)", " = (string) "]),
    st.sampled_from(["\\", '"', "'"]),
    st.text(max_size=20),
)
@example("user-pw", "=", "\\", "@")
@example("user-pw", " = ", '"', ' "@&#')
def test_a_property_of_a_pipeline_never_survives(key: str, equals: str, how: str, middle: str) -> None:
    """As GStreamer's pipelines are written: a value is quoted, or each blank in it has a backslash."""
    special = r"[\s\\!&#=]" if how == "\\" else rf"[\\{how}]"
    value = re.sub(special, lambda found: f"\\{found[0]}", f"{FIRST}{middle}{LAST}")
    quotes = "" if how == "\\" else how
    text = f"gst://rtspsrc location=rtsp://h/x {key}{equals}{quotes}{value}{quotes} ! decodebin"
    for words in (*spoken_of(text), without_credentials(f"cannot open {text}.")):
        assert FIRST not in words
        assert LAST not in words


@given(st.text(max_size=60))
def test_hiding_twice_hides_no_more(text: str) -> None:
    once = without_credentials(text)
    assume("***" not in text)
    assert without_credentials(once) == once


def test_a_long_message_is_quick() -> None:
    # Quadratic time would be minutes.
    for text in (
        "a" * 300_000,
        "a:" * 150_000,
        "key" * 100_000,
        "x=" * 150_000,
        "key " * 75_000,
        "?a%" * 100_000,
    ):
        assert without_credentials(text) == text


def test_a_uri_does_not_show_itself() -> None:
    uri = Uri("rtsp://u:secret@h/x", "rtsp", "u:secret@h/x", {"token": "secret"})
    assert "secret" not in f"{uri} {uri!r}"
