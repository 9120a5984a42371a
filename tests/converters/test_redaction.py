"""Secrets are taken out of every text in whichever form libraries write them, and ordinary words are not."""

from __future__ import annotations

import base64
import html
import json
import logging
import traceback
import warnings
from urllib.parse import quote, quote_plus

import pytest

from converters.errors import UsageError
from converters.redaction import (
    errors_redacted,
    keep_secret,
    keep_secret_of,
    keep_secrets_in,
    redact_error,
    redacted,
)

CANARY = "cänary/+ 'one'\\x"
FORMS = {
    "plain": CANARY,
    "repr": repr(CANARY),
    "repr of bytes": repr(CANARY.encode()),
    "json": json.dumps(CANARY),
    "json, not ascii": json.dumps(CANARY, ensure_ascii=False),
    "html": html.escape(CANARY),
    "percent": quote(CANARY, safe=""),
    "percent, slashes": quote(CANARY),
    "percent, lower case": quote(CANARY, safe="").replace("%2F", "%2f").replace("%C3%A4", "%c3%a4"),
    "form": quote_plus(CANARY),
    "base64": base64.b64encode(CANARY.encode()).decode(),
    "base64 of the user, too": base64.b64encode(f"ann:{CANARY}".encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(CANARY.encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_hidden_in_every_form(form):
    keep_secret(CANARY, "ann")
    hidden = redacted(f"Illegal header value: Bearer {FORMS[form]} at 127.0.0.1")
    assert "***" in hidden and "one" not in hidden and FORMS[form].strip("=") not in hidden
    assert hidden.startswith("Illegal header value") and hidden.endswith("at 127.0.0.1")


def test_what_surrounds_a_secret_as_it_was_read_does_not_save_it():
    keep_secret("\ufeffcanary-two\r\n\0")
    assert redacted("b'Bearer canary-two'") == "b'Bearer ***'"


def test_of_several_lines_each_is_hidden():
    keep_secret("canary-three\ncanary-four")
    assert redacted("canary-four, canary-three") == "***, ***"


@pytest.mark.parametrize("word", ["", "a", "user", "proxy", "internlm", "password"])
def test_short_and_plain_words_are_hidden_in_urls_and_base64_only(word):
    keep_secret_of(f"http://me:{word}@proxy.example:3128")
    coded = base64.b64encode(f"me:{word}".encode()).decode()
    assert len(word) < 4 or redacted(f"Basic {coded}").rstrip("=") == "Basic ***"
    assert redacted(f"the {word} user of the proxy, a proxy") == f"the {word} user of the proxy, a proxy"
    assert redacted(f"via http://me:{word}@proxy.example:3128/") == "via http://proxy.example:3128/"


def test_names_with_an_at_sign_stay_what_they_are():
    text = "https://hub.example/acme/tiny@main and a@b.example, file://x/y@z"
    assert redacted(text) == text


def test_the_password_of_a_url_is_hidden_without_its_url():
    keep_secret_of("http://ann:p%40ss/w0rd@proxy.example:3128")
    assert redacted("p@ss/w0rd p%40ss/w0rd p%40ss%2Fw0rd") == "*** *** ***"


def test_what_a_signed_link_holds_is_hidden():
    link = "https://cdn.example/x?Expires=17&X-Amz-Signature=abcdef&OSSAccessKeyId=LTAI5&part=2"
    hidden = "https://cdn.example/x?Expires=17&X-Amz-Signature=***&OSSAccessKeyId=***&part=2"
    assert redacted(link) == hidden


def test_an_environment_is_known_by_its_names_and_urls():
    keep_secrets_in(
        {
            "HF_TOKEN": "canary-five",
            "INTERNLM_ZOO_SERVE_TOKEN": "canary-nine",
            "OPENXLAB_SK": "canary-six",
            "https_proxy": "ann:canary-seven@proxy:1",
            "HF_ENDPOINT": "https://canary-eight@hub.example",
            "TOKENIZERS_PARALLELISM": "ordinary-word",
            "POSTGRES_PASSWORD": "ordinary-word",
            "DATABASE_URL": "postgres://ann:ordinary-word@host",
        }
    )
    text = "canary-five canary-nine canary-six canary-seven canary-eight ordinary-word"
    assert redacted(text) == "*** *** *** *** *** ordinary-word"


def test_errors_say_no_secret_anywhere():
    keep_secret("canary-nine")
    error = UsageError("what canary-nine", "where canary-nine", "fix canary-nine")
    assert "canary-nine" not in f"{error} {error!r} {error.args} {error.what} {error.where} {error.fix}"


def test_no_error_leaves_with_a_secret_nor_one_that_it_came_from():
    secret = "canary-" + "ten"  # not as it stands in a traceback's lines of source
    keep_secret(secret)

    @errors_redacted()
    def ask():
        try:
            raise KeyError(secret, secret.encode())
        except KeyError as error:
            raise ValueError(f"Illegal header value b'Bearer {secret}'") from error

    with pytest.raises(ValueError, match=r"Illegal header value b'Bearer \*\*\*'") as caught:
        ask()
    assert secret not in "".join(traceback.format_exception(caught.value))


def test_an_error_of_the_system_names_no_file_that_is_a_secret():
    secret = "canary-" + "twelve"
    keep_secret(secret)
    with pytest.raises(OSError, match="canary") as caught:
        open(secret)  # noqa: SIM115
    redact_error(caught.value)
    assert secret not in f"{caught.value} {caught.value!r} {caught.value.filename}"


def test_libraries_log_and_warn_without_secrets(caplog):
    secret = "canary-" + "eleven"
    keep_secret(secret)
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("some.library").debug("sends %s", {"Authorization": f"Bearer {secret}"})
        try:
            raise OSError(secret)
        except OSError:
            logging.getLogger("some.library").exception("it failed")
    assert "Bearer ***" in caplog.text and "OSError: ***" in caplog.text
    assert secret not in caplog.text
    assert secret not in warnings.formatwarning(secret, UserWarning, "file.py", 1, "")
