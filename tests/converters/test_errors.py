"""What an error says is no longer than a person reads, whatever it quotes."""

from __future__ import annotations

from converters.errors import LINE, LINES, UsageError


def test_a_line_keeps_its_ends() -> None:
    error = UsageError(f"no tensor {'x' * 1_000_000}: rename it", "y" * 5000, "z" * 5000)
    assert error.what.startswith("no tensor xxx") and error.what.endswith("xxx: rename it")
    assert f"[{1_000_021 - LINE} characters]" in error.what
    assert error.where is not None and error.fix is not None
    assert all(len(text) < LINE + 50 for text in (error.what, error.where, error.fix))


def test_of_many_lines_the_first_are_kept_and_the_others_counted() -> None:
    lines = UsageError("\n".join(str(number) for number in range(LINES + 7))).what.split("\n")
    assert lines[-2:] == [str(LINES - 1), "... and 7 lines more"]


def test_what_is_short_stays_as_it_is() -> None:
    assert str(UsageError("a" * LINE, "b")) == f"{'a' * LINE} (b)"
