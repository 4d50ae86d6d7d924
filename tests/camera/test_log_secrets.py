from __future__ import annotations

import json
import shlex
import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from camera.log_secrets import without_secrets

FIRST, LAST = "Qx7", "zW9"
KEYS = st.sampled_from(
    ["password", "mqtt_password", "Token", "accessToken", "api_key", "client-secret", "PASSPHRASE", "pwd"]
)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("mqtt {'password': 'geheim'}", "mqtt {'password': ***}"),
        ('{"user": "a", "password": "geheim", "x": 1}', '{"user": "a", "password": ***, "x": 1}'),
        (r'"{\"password\": \"ge\\\"heim\", \"x\": 1}"', r'"{\"password\": ***, \"x\": 1}"'),
        ("{b'password': b'geheim', 'x': 1}", "{b'password': ***, 'x': 1}"),
        ("'tokens': ['a', 'b'], 'x': 1", "'tokens': ***, 'x': 1"),
        ("headers (('Cookie', 'sid=1; a=b'), ('X', 'y'))", "headers (('Cookie', ***), ('X', 'y'))"),
        ("token: geheim", "token: ***"),
        ("  mqtt_password: my secret words # x", "  mqtt_password: ***"),
        ("cannot parse | password: my secret words | port: 1", "cannot parse | password: *** | port: 1"),
        ("broker says password: geheim (4)", "broker says password: *** (4)"),
        ("{password: geheim, user: x}", "{password: *** user: x}"),
        ("Settings(port=1 password='geheim' user='x')", "Settings(port=1 password=*** user='x')"),
        ("ran tool --password geheim -v", "ran tool --password *** -v"),
        ("ran tool --password 'ge heim' -v", "ran tool --password *** -v"),
        ("['tool', '--password', 'ge heim', '-v']", "['tool', '--password', ***, '-v']"),
        ("see rtsp://u:p@h/x?token=1", "see rtsp://***@h/x?token=***"),
    ],
)
def test_what_is_hidden(line: str, shown: str) -> None:
    assert without_secrets(line) == shown
    assert without_secrets(shown) == shown


@pytest.mark.parametrize(
    "line",
    [
        "wrong user or password (401)",
        "the password is refused: check it",
        "token file: /etc/x",
        "password_file: /etc/x",
        "'password_file': '/etc/x', '--web-token-file', '/etc/y'",
        "mqtt: password: there is a password_file, too; give one of them.",
        "mqtt.password: expected text, got 5",
        "/run/token: No such file or directory",
        "cannot read the token: [Errno 13] Permission denied: '/etc/token'",
        "cannot read the token: Permission denied",
        "give --password or --password-file",
        "--password is missing",
        "another address needs --web-token-file. This makes one: openssl rand -hex 16 > FILE",
        "KeyError: 'password'",
        "unknown setting 'passwort', known are 'user', 'password', 'host'",
        "Too many wrong tokens: wait a second.",
        "an encrypted key: -----BEGIN",
        "keys: c, q; monkey: 3; key-int-max=30",
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    assert without_secrets(line) == line


@given(KEYS, st.text(max_size=20), st.booleans())
@example("password", "\"'\\", False)
@example("password", " ', 'x': '\"", False)
def test_a_secret_in_a_mapping_never_survives(key: str, middle: str, as_ascii: bool) -> None:
    content = {"user": "joe", key: f"{FIRST}{middle}{LAST}", "port": 1883}
    quoted = json.dumps(content, ensure_ascii=as_ascii)
    lines = [repr(content), quoted, json.dumps(quoted), repr(quoted), repr(list(content.items()))]
    for line in lines:
        shown = without_secrets(f"broker refused {line} twice")
        assert FIRST not in shown, line
        assert LAST not in shown, line


@given(KEYS, st.text(max_size=20))
@example("password", "'\"\\ ")
def test_a_secret_in_a_command_never_survives(key: str, middle: str) -> None:
    words = ["tool", f"--{key}", f"{FIRST}{middle}{LAST}", "-v"]
    for line in (shlex.join(words), repr(words), json.dumps(words)):
        shown = without_secrets(f"ran {line}")
        assert FIRST not in shown, line
        assert LAST not in shown, line


@given(
    KEYS,
    st.sampled_from(["", "  ", "- ", "3 errors | "]),
    st.text(st.characters(exclude_characters="|", exclude_categories=["Cc", "Zl", "Zp", "Cs"]), max_size=20),
)
def test_a_secret_in_a_line_of_yaml_never_survives(key: str, before: str, middle: str) -> None:
    shown = without_secrets(f"{before}{key}: {FIRST}{middle}{LAST}")
    assert FIRST not in shown
    assert LAST not in shown


@given(KEYS, st.text(max_size=20))
def test_a_secret_of_one_word_never_survives_behind_its_key(key: str, middle: str) -> None:
    assume(not any(character.isspace() for character in middle))
    shown = without_secrets(f"the broker has refused {key}: {FIRST}{middle}{LAST} of joe")
    assert FIRST not in shown
    assert LAST not in shown


def test_a_long_line_is_quick() -> None:
    words = ("a", "token", "'token", "'token':", "--token ", "token: ", "token: '", "'token': [", " ", "- ")
    for word in (*words, "\n", "-", "\\", "_", "api", '"', "'", "--token '", "\\'", " | "):
        begun_s = time.process_time()
        without_secrets(word * (16_384 // len(word)))
        # Quadratic time would be many times as long.
        assert time.process_time() - begun_s < 10, word
