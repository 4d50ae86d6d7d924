"""Takes secrets out of log lines: besides URIs also what a library prints of its settings or command lines.

A log line may quote a mapping (`'password': 'x'`), JSON, JSON in JSON, YAML or a command (`--password x`).
This is the last resort: our own messages hold no secrets. Where prose and a setting look alike, a word too
much is hidden (`password: x`), except where what follows is plainly a sentence.
"""

from __future__ import annotations

import re

from camera.credentials import without_credentials

_HIDDEN = "***"
# The last part of a key: `mqtt_password`, `accessToken`, but neither `token_file` nor `password_file`.
_KEY = (
    r"[\w.-]{0,40}?(?:token|password|passwort|passwd|passphrase|secret|credentials?|pwd"
    r"|(?:api|access|secret|private)[_-]?key|user-?pw)s?"
)
# Short for some, too common in prose to be looked for there.
_SHORT_KEY = rf"(?:{_KEY}|(?:[\w.-]{{0,40}}[_.-])?(?:pass|pw|psk|jwt|auth|authorization|cookies?))"
# Of a text that is quoted, and maybe quoted again.
_QUOTES = r"\\{0,15}[\"']"
# Up to the same quotes, in front of which there is no backslash. Without them: to the end.
_QUOTED = rf"[bBrRuU]{{0,2}}(?P<quotes>{_QUOTES})(?:(?!(?<!\\)(?P=quotes))[\s\S])*(?:(?P=quotes))?"
_GROUP = r"[\[({][^\])}]*[\])}]?"
_SHELL_WORD = r"(?:'[^']*(?:'|$)|\"(?:\\[\s\S]|[^\"\\])*(?:[\"\\]|$)|\\[\s\S]|[^\s'\"\\])+"
_IN_QUOTES = re.compile(
    rf"(?P<key>(?P<around>{_QUOTES}){_SHORT_KEY}(?P=around)[ \t]*(?:=>|[:=])[ \t]*)"
    rf"(?:{_QUOTED}|{_GROUP}|[^\s,;\])}}]+)",
    re.IGNORECASE,
)
_AS_PAIR = re.compile(
    rf"(?P<key>\((?P<around>{_QUOTES}){_SHORT_KEY}(?P=around),[ \t]*){_QUOTED}", re.IGNORECASE
)
# In a list of words, or as typed.
_IN_LIST = re.compile(rf"(?P<key>(?P<around>{_QUOTES})--?{_KEY}(?P=around),[ \t]*){_QUOTED}", re.IGNORECASE)
_AS_OPTION = re.compile(
    rf"(?P<key>(?<![\w-])--?{_KEY}(?:=|[ \t]+))(?P<value>(?!-){_SHELL_WORD})", re.IGNORECASE
)
# A line of YAML has nothing but the key in front of the value, which goes to the end of the line. A path, and
# the dotted name of a setting, are none: what follows them is what is wrong with it.
_PLAIN_KEY = _KEY.replace(".", "", 1)
_AS_LINE = re.compile(
    rf"(?P<key>(?:^|(?<= \| ))[ \t-]{{0,80}}{_PLAIN_KEY}[ \t]{{0,9}}:[ \t]+)"
    rf"(?P<value>{_QUOTED}|(?:(?! \| )[^\n])+)",
    re.IGNORECASE | re.MULTILINE,
)
_AS_WORD = re.compile(
    rf"(?P<key>(?<![\w./\\-]){_PLAIN_KEY}[ \t]{{0,9}}:[ \t]{{0,9}})(?P<value>{_QUOTED}|[^\s\"']\S*)",
    re.IGNORECASE,
)
# With more words behind it, it begins a sentence, or the text of an error of the operating system.
_SENTENCE = re.compile(
    r"(?:a|an|and|are|as|at|but|cannot|check|does|expected|file|for|from|give|given|has|input|invalid|is|it|its"
    r"|missing|must|needs|no|none|not|of|or|permission|see|set|should|that|the|there|this|to|too|try|unexpected|unknown"
    r"|use|wait|wants|was|which|with|wrong|write|you|your)[ \t]+\S+|\[Errno ",
    re.IGNORECASE,
)


def without_secrets(line: str) -> str:
    """Return a log line with `***` in the place of every secret: those of URIs, of settings, and of options.

    Args:
        line: Of any library; several lines may be joined by ` | `.
    """
    for pattern in (_IN_QUOTES, _AS_PAIR, _IN_LIST):
        line = pattern.sub(rf"\g<key>{_HIDDEN}", line)
    for pattern in (_AS_OPTION, _AS_LINE, _AS_WORD):
        line = pattern.sub(_hide_unless_sentence, line)
    return without_credentials(line)


def _hide_unless_sentence(found: re.Match[str]) -> str:
    behind = found.string[found.start("value") :]
    return found[0] if _SENTENCE.match(behind) else f"{found['key']}{_HIDDEN}"
