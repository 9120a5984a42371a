"""What a tokenizer takes for text: any string that has a UTF-8 form, which lone surrogates have not."""

from __future__ import annotations

from converters.errors import UsageError


def check_text(text: str, where: str | None = None) -> None:
    """Raises UsageError naming the first lone surrogate, if there is one.

    Such halves of a character come from `errors="surrogateescape"`, cut UTF-16 or JSON escapes; tokenizers
    have no ids for them.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"character {error.start} of the text is U+{ord(text[error.start]):04X}, a lone surrogate, "
            "which is half a character and no text",
            where,
            "decode the text from its bytes again, or replace what does not decode",
        ) from None
