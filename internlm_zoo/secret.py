"""A credential as somebody left it for us: in a variable, or in a file. Cleaned, or refused by the name of
its place.

What surrounds it is not part of it: blanks, line ends, NUL, a byte order mark, quotation marks, from editors,
WSL, secret and .env files, PowerShell (whose `>` writes UTF-16). What then cannot be the value of an HTTP
header (RFC 9110, section 5.5; RFC 6750 allows even less) is refused, and never shown.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from pathlib import Path

from converters.redaction import keep_secret
from internlm_zoo.errors import CredentialError
from internlm_zoo.fs.user_files import content_given

_MOST = 1 << 16  # bytes; more is no credential, and may be a device that never ends
_TOKEN = 20  # characters; no hub gives out shorter ones, and a mistyped name should be seen
# NUL of UTF-16, byte order marks, spaces of no width: of shells, editors and web pages.
_AROUND = r"[\s\0\ufeff\u200b]+"
_QUOTED = re.compile(r"(['\"])(.*)\1", re.DOTALL)
_CODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FLAWS = (
    (re.compile(r"[\r\n]"), "it has more than one line"),
    (re.compile(r"\s"), "it has blanks in it"),
    (re.compile(r"[\0-\x1f\x7f-\x9f]"), "it has control characters in it"),
    (re.compile(r"[^\x21-\x7e]"), "it has characters in it that are not ASCII"),
)


@dataclass(frozen=True)
class Secret:
    """value: fit for a header. origin: where it came from, as a person knows it: a variable or a file."""

    value: str = field(repr=False)
    origin: str


def secret_of(text: str, origin: str) -> Secret | None:
    """What a variable or file holds; None if that is nothing. Raises CredentialError."""
    keep_secret(text)
    value = _bare(text)
    if (quoted := _QUOTED.fullmatch(value)) is not None:
        value = _bare(quoted[2])
    if not value:
        return None
    flaw = next((flaw for pattern, flaw in _FLAWS if pattern.search(value)), None)
    if flaw is not None:
        what = f"what {origin} holds is no credential: {flaw}"
        raise CredentialError(what, fix=f"write it anew, without anything around it, or do without {origin}")
    return Secret(value, origin)


def read_text(path: Path) -> str:
    """A file, or what comes through a pipe (`<(pass show hub)`), in the coding that its first bytes say, else
    UTF-8. Raises CredentialError for what is no text, and OSError."""
    data = content_given(path, _MOST)
    coding = next((coding for mark, coding in _CODINGS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(coding)
    except UnicodeDecodeError as error:
        keep_secret(data.decode("latin-1"))
        what = f"{path} holds no credential: it is neither UTF-8 nor, by its first bytes, UTF-16"
        raise CredentialError(what, fix="write it anew, as plain text") from error


def place_of(path: Path) -> Path:
    """The path of a token file. Where there is none, it may be the token itself, given in its place."""
    if path.name == str(path) and len(path.name) >= _TOKEN and not path.suffix and not path.exists():
        keep_secret(path.name)
    return path


def _bare(text: str) -> str:
    return re.sub(f"^{_AROUND}|{_AROUND}$", "", text)
