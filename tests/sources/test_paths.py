from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from internlm_zoo.errors import IntegrityError
from internlm_zoo.sources.paths import check_listing, check_path, clashing

HARMLESS = [
    "config.json",
    ".gitattributes",
    "weights/deep/er/model-00001-of-00002.safetensors",
    "with space & 中文 %41.txt",
    "console.log",
    "...hidden",
    "a..b",
]
HOSTILE = [
    "",
    "/etc/passwd",
    "//server/share",
    "../up",
    "a/../../up",
    "a/./b",
    "a//b",
    "a/",
    ".",
    "..",
    "C:/windows",
    "c:evil",
    "file.txt:stream",
    "a\\..\\up",
    "nul\0byte",
    "new\nline",
    "\x1b]0;title\x07",
    "right\u202eto-left.txt",
    "zero\u200bwidth",
    "lone \ud800 surrogate",
    "CON",
    "con.txt",
    "sub/Aux .json",
    "LPT9.bin",
    "com¹",
    "trailing.",
    "trailing ",
    ".git/hooks/post-checkout",
    "sub/.GIT/config",
    "x" * 256,
    "名" * 100,
]


@pytest.mark.parametrize("path", HARMLESS)
def test_names_that_releases_have_are_accepted(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize("path", HOSTILE)
def test_a_name_that_means_harm_is_refused(path: str) -> None:
    with pytest.raises(IntegrityError):
        check_path(path)


@pytest.mark.parametrize(
    "paths",
    [
        ("weights", "weights/model.bin"),
        ("same", "same"),
    ],
)
def test_two_names_for_one_file_are_refused(paths: tuple[str, ...]) -> None:
    with pytest.raises(IntegrityError):
        check_listing(paths)


@pytest.mark.parametrize(
    "pair",
    [("Model.bin", "model.bin"), ("a/b", "A/b"), ("STRASSE", "stra\u00dfe"), ("cafe\u0301", "caf\u00e9")],
)
def test_two_names_that_some_systems_take_for_one_are_found_and_not_refused(pair: tuple[str, str]) -> None:
    beside = ("config.json", f"{pair[1]}/more" if pair[0] == "a/b" else "sub/config.json")
    paths = (pair[0], *beside) if pair[0] == "a/b" else (*pair, *beside)
    check_listing(paths)
    assert list(clashing(paths)) == [pair]


def test_a_refusal_says_the_name_and_where_it_was_listed() -> None:
    with pytest.raises(IntegrityError) as caught:
        check_path("../evil", "somewhere: org/name")
    assert "../evil" in caught.value.what and caught.value.where == "somewhere: org/name"


@given(st.text(st.sampled_from("a.A/\\: \0cnoulCNOUL\u00e9\u0301"), max_size=12))
def test_an_accepted_name_stays_inside_on_every_system(path: str) -> None:
    try:
        check_path(path)
    except IntegrityError:
        return
    for flavour in (PurePosixPath, PureWindowsPath):
        assert not flavour(path).is_absolute() and ".." not in flavour(path).parts
        assert flavour(path).as_posix() == path
    assert not PureWindowsPath(path).is_reserved()
