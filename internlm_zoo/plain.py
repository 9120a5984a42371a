"""Text of others as it may be shown: what a terminal, a CI runner or an eye would take for something else is
written out, as Python escapes it, and what is too long loses its middle.

Of others is whatever is not a literal of this code: names of files and tensors, values of configs, what hubs
answer, overlays, arguments. Characters that move the cursor, change colours, turn the direction of writing
(Trojan Source, CVE-2021-42574), or that nobody sees (Unicode's Default_Ignorable_Code_Point) are shown as
`\\x1b`, `\\u202e`, `\\U000e0041`; bytes of a file name that are no text as `\\xff`.
"""

from __future__ import annotations

import re

from converters.redaction import redacted

MOST = 2000
"""Characters of one text. A path has 4,096 bytes at most, and a sentence that is longer is not read."""

_BREAKS = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNSEEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_IN_TEXT = re.compile(f"[{_UNSEEN}]")
# Joiners belong to the writing of many languages, and to emoji; in a name they only make two look the same.
_IN_NAMES = re.compile(f"[{_UNSEEN}\t\n\u200c\u200d\ud800-\udfff]")
_MARKS = re.compile(r"[&<>|*_~`\[\]\\@#!]|(?<=\w):(?=//)|(?<=www)\.|^[-+=]|(?<=\d)\.(?= )", re.IGNORECASE)
# What the runners of GitHub and Azure obey: where it begins a line of a log, as what is broken over lines
# may, and the second wherever it is.
_COMMANDS = re.compile(r"(?<!\w)(:)(?=:[\w-]+[^:\n]*::)|#(?=#\[|#vso\[)")


def plain(text: str, most: int = MOST) -> str:
    """One line of at most `most` characters, more or less, without secrets."""
    return _harmless(_IN_NAMES.sub(_escape, _shortened(redacted(text), most)))


def plain_lines(text: str, most: int | None = None) -> str:
    """The same of a text whose line breaks and tabs are its own. most: of its characters; None: all."""
    text = redacted(text)
    return _harmless(escaped(text if most is None else _shortened(text, most)))


def escaped(text: str) -> str:
    """What is not seen is written out; line breaks and tabs stay, and bytes that are no text."""
    return _IN_TEXT.sub(_escape, text)


def escaped_json(document: str) -> str:
    """A JSON document with the same as JSON escapes it: the same values."""
    return _IN_TEXT.sub(_as_json, document).replace("##[", "\\u0023#[").replace("##vso[", "\\u0023#vso[")


def markdown_text(text: str) -> str:
    """A sentence in a Markdown page: no HTML, emphasis, link, table cell or picture comes of it."""
    return _MARKS.sub(lambda found: f"&#{ord(found[0])};", plain(text))


def markdown_code(text: str) -> str:
    """A name in a Markdown page, in a table too."""
    return f"`{plain(text).replace('`', chr(39)).replace('|', '¦')}`" if text else ""


def _harmless(text: str) -> str:
    if "::" not in text and "##" not in text:
        return text
    return _COMMANDS.sub(lambda found: "\\x3a" if found[1] else "\\x23", text)


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte that is no text
        code -= 0xDC00
    written = f"\\x{code:02x}" if code < 0x100 else found[0].encode("ascii", "backslashreplace").decode()
    return _BREAKS.get(found[0], written)


def _as_json(found: re.Match[str]) -> str:
    pair = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{pair[at : at + 2].hex()}" for at in range(0, len(pair), 2))
