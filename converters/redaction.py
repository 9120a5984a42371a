"""The one place that knows every secret in play, and takes them out of texts before these are shown, logged
or saved.

Whoever reads a credential hands it to `keep_secret`, and every text passes `redacted`: errors as they are
made (errors.py), whatever the command line prints (internlm_zoo/cli/streams.py), and, from the first secret
on, the logging records and warnings of all libraries in the process. It stands beside errors.py, and for the
same reason. What is hidden: each secret as it is, percent-encoded, as base64 (also behind a user's name, as
basic authentication has it), and as Python and JSON escape it; the user and password of any URL; and what
the query of a signed link holds. A secret of fewer than LEAST characters, or a password that is a plain word,
would take ordinary words along, and is only hidden where its place in a URL or in base64 gives it away.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

HIDDEN = "***"
LEAST = 6  # characters; fewer would take ordinary words along

# Variables of ours and of the hubs' own clients. Others are not in play, and their words may be ordinary.
_OURS = re.compile(
    r"(?:HF|HUGGING_?FACE|MODELSCOPE|OPENXLAB|OPENMIND|INTERNLM_ZOO)_(?:\w+_)?"
    r"(?:TOKEN|SECRET|PASSWORD|COOKIES?|AK|SK)",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"\w+_(?:PROXY|ENDPOINT)", re.IGNORECASE)
_WORD = re.compile(r"[a-z]{1,11}")
_USERINFO = re.compile(r"(?<=://)[^/?#\s'\"<>]*@")
_SIGNED = re.compile(
    r"(?i)(?<=[?&])([\w-]*(?:signature|credential|token|secret|accesskeyid|password)|sig|sign|ak|sk)=[^&\s'\"<>]+"
)
_CUTS = re.compile(r"[/?#]")
_PERCENT = re.compile(r"%[0-9A-F]{2}")

_lock = threading.Lock()
_forms: set[str] = set()
_known: re.Pattern[str] | None = None


def keep_secret(secret: str, user: str = "") -> None:
    """From now on `secret` is in no text. user: the name that it may stand behind, as `user:secret`.

    May be called with a text as it was read: what surrounds the secret in it does not count, and each word
    of several is one.
    """
    words = {secret, secret.strip(), *re.split(r"[\s\0\ufeff]+", secret)}
    _keep({form for word in words for form in _forms_of(word, user)})


def keep_secret_of(url: str) -> None:
    """The password in a URL, with or without its scheme, or the user's name where that stands alone, and may
    be a token. A plain word is hidden only where it gives itself away, unless it is a piece of a password
    that should have been percent-encoded: errors of libraries quote such pieces."""
    userinfo, at, _ = url.rpartition("://")[2].rpartition("@")
    if not at:
        return
    user, colon, password = userinfo.partition(":")
    secret, user = (password, user) if colon else (user, "")
    _keep(set(_basic(secret, user)))
    pieces = _CUTS.split(secret)
    if len(pieces) > 1 or not _WORD.fullmatch(secret):
        for piece in (secret, *pieces):
            keep_secret(piece)


def keep_secrets_in(environ: Mapping[str, str]) -> None:
    """What an environment holds under the names that credentials go by, and in addresses of proxies and
    hubs."""
    for name, value in environ.items():
        if _OURS.fullmatch(name):
            keep_secret(value)
        elif _ADDRESS.fullmatch(name):
            keep_secret_of(value.strip())


def redacted(text: str) -> str:
    """The text with every secret that is known here, or that gives itself away, hidden."""
    known = _known
    if known is not None:
        text = known.sub(HIDDEN, text)
    if "://" in text:
        text = _SIGNED.sub(rf"\1={HIDDEN}", _USERINFO.sub("", text))
    return text


def redact_error(error: BaseException) -> None:
    """Takes the secrets out of what an exception says, and out of those it came from."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.args = tuple(map(_plain, one.args))
        if isinstance(one, OSError) and one.filename is not None:  # which it is written by instead
            one.filename = _plain(one.filename)
        # The last are an ExceptionGroup's, of Python 3.11.
        waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]


@contextmanager
def errors_redacted() -> Iterator[None]:
    """No error leaves with a secret in it, nor one that it came from. Also a decorator."""
    try:
        yield
    except BaseException as error:
        redact_error(error)
        raise


def without_user(url: str) -> str:
    """A URL without the user and password in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _forms_of(secret: str, user: str) -> Iterator[str]:
    """Every way in which a library may write it."""
    for word in {secret, unquote(secret)}:
        data = word.encode("utf-8", "surrogateescape")
        yield from _escaped(word)
        yield from (repr(data)[2:-1], json.dumps(word)[1:-1], html.escape(word))
        for unharmed in ("", "/"):
            coded = quote(data, safe=unharmed)
            yield from (coded, coded.replace("%20", "+"), _PERCENT.sub(lambda found: found[0].lower(), coded))
        yield from _base64(data)
    yield from _basic(secret, user)


def _escaped(word: str) -> set[str]:
    """As Python writes it in a text, and that text in another: which quotes it escapes depends on these."""
    forms = {word}
    for _ in range(2):
        forms |= {repr(form)[1:-1] for form in forms}
        forms |= {form.replace("\\", "\\\\").replace(mark, f"\\{mark}") for form in forms for mark in "'\""}
    return forms


def _basic(secret: str, user: str) -> Iterator[str]:
    """As basic authentication writes it."""
    for behind, word in ((f"{user}:", secret), (f"{unquote(user)}:", unquote(secret))):
        yield from _base64((behind + word).encode("utf-8", "surrogateescape"))


def _base64(data: bytes) -> Iterator[str]:
    yield base64.b64encode(data).decode().rstrip("=")
    yield base64.urlsafe_b64encode(data).decode().rstrip("=")


def _keep(forms: set[str]) -> None:
    global _known
    found = {form for form in forms if len(form) >= LEAST}
    with _lock:
        if found <= _forms:
            return
        if not _forms:
            _watch_libraries()
        _forms.update(found)
        # The longer first: a form may be the beginning of another.
        _known = re.compile("|".join(map(re.escape, sorted(_forms, key=len, reverse=True))))


def _plain(value: Any) -> Any:
    """An argument of an exception; one of another kind stays what it is unless it shows a secret."""
    if isinstance(value, str):
        return redacted(value)
    shown = repr(value)
    clean = redacted(shown)
    return value if clean == shown else clean


def _watch_libraries() -> None:
    """What libraries log, or warn of, goes to handlers that we do not know: it is made without secrets."""
    logging.setLogRecordFactory(partial(_record, logging.getLogRecordFactory()))
    warnings.formatwarning = partial(_warning, warnings.formatwarning)


def _record(make: Callable[..., logging.LogRecord], *args: Any, **kwargs: Any) -> logging.LogRecord:
    record = make(*args, **kwargs)
    try:
        message = record.getMessage()
    except (TypeError, ValueError):  # logging itself will say that the arguments do not fit
        return record
    if (clean := redacted(message)) != message:
        record.msg, record.args = clean, ()
    if record.exc_info and record.exc_info[1] is not None:
        redact_error(record.exc_info[1])
    return record


def _warning(make: Callable[..., str], *args: Any, **kwargs: Any) -> str:
    return redacted(make(*args, **kwargs))
