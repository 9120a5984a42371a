"""Answers that have not the form of their protocol: each is that hub's failure, by the name of the field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from internlm_zoo.errors import IntegrityError, ListingError, NetworkError, NotFoundError, ZooError
from internlm_zoo.names import DEEPEST_PATH, LONGEST_NAME, LONGEST_PATH
from internlm_zoo.sources.base import Snapshot, Source
from internlm_zoo.sources.paths import FILES, LARGEST_FILE
from tests.fuzz.variation import HOSTILE
from tests.sources.contract import REPO
from tests.sources.hostile import COMMIT
from tests.sources.teller import FACTS, QUESTIONS, Teller, changed, fact, places, record, telling
from tests.sources.test_hostile_answers import opened

SHA256, EMPTY_SHA256 = "a" * 64, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
SHA1, EMPTY_SHA1 = "b" * 40, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


@pytest.fixture(scope="module")
def teller() -> Iterator[Teller]:
    with telling() as teller:
        yield teller


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    return record(tmp_path_factory.mktemp("hub"))


@pytest.fixture
def told(teller: Teller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What an adapter makes of a body."""
    teller.kind = "application/json"

    def ask(protocol: str, body: Any) -> tuple[Source, Snapshot]:
        teller.tells(body)
        source = opened(protocol, teller.url, tmp_path)
        return source, source.resolve(REPO)

    return ask


@pytest.mark.parametrize("protocol", QUESTIONS)
def test_what_the_loopback_hub_says_is_a_listing(told, recorded, protocol: str) -> None:
    _, snapshot = told(protocol, recorded[protocol])
    assert {file.path for file in snapshot.files} == {"a.json", "b.bin", "model.safetensors"}


JSON = st.sampled_from(HOSTILE) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
@pytest.mark.parametrize("protocol", QUESTIONS)
def test_any_value_in_any_place_gives_a_listing_or_a_sentence(told, recorded, protocol: str, data) -> None:
    document = recorded[protocol]
    place = data.draw(st.sampled_from(list(places(document))))
    value = data.draw(JSON)
    body = json.dumps(changed(document, place, value)).encode()
    try:
        source, snapshot = told(protocol, body)
        for file in snapshot.files:
            source.locate(snapshot, file.path)
    except ZooError as error:
        assert "somewhere" in str(error)
        return
    for file in snapshot.files:
        assert file.size is None or (type(file.size) is int and 0 <= file.size <= LARGEST_FILE)
        assert re.fullmatch("[0-9a-f]{64}", file.sha256 or SHA256)
        assert re.fullmatch("[0-9a-f]{40}", file.git_sha1 or SHA1)
        assert file.path and not file.path.startswith("/") and ".." not in file.path.split("/")


SIZES = [True, 2000.0, "2000", [], {}, 2000.5, 1e400]


@pytest.mark.parametrize("protocol", FACTS)
@pytest.mark.parametrize("size", SIZES, ids=repr)
def test_a_size_of_another_type_is_named(told, recorded, protocol: str, size: Any) -> None:
    place = fact(protocol, "size")
    with pytest.raises(NetworkError) as caught:
        told(protocol, changed(recorded[protocol], place, size))
    assert caught.value.exit_code == 5
    if size != 1e400:  # which is no number of JSON
        field = f"{'lfs.' * (place[-2] == 'lfs')}{place[-1]}"
        assert f"[2].{field}: it should be a valid integer" in str(caught.value)


@pytest.mark.parametrize("protocol", FACTS)
@pytest.mark.parametrize("size", [-1, LARGEST_FILE + 1, 10**15, 10**60, 0], ids=repr)
def test_a_size_that_no_such_file_has_is_refused(told, recorded, protocol: str, size: int) -> None:
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        told(protocol, changed(recorded[protocol], fact(protocol, "size"), size))


@pytest.mark.parametrize("protocol", FACTS)
@pytest.mark.parametrize("digest", [EMPTY_SHA256, "g" * 64, "a" * 63, "../" * 3, "a" * 64 + "\n", "٠" * 64])
def test_a_digest_that_these_bytes_cannot_have_is_refused(told, recorded, protocol: str, digest: str) -> None:
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        told(protocol, changed(recorded[protocol], fact(protocol, "sha256"), digest))


@pytest.mark.parametrize("protocol", FACTS)
def test_a_digest_in_capitals_is_the_same(told, recorded, protocol: str) -> None:
    _, snapshot = told(protocol, changed(recorded[protocol], fact(protocol, "sha256"), "AB" * 32))
    assert snapshot.file("model.safetensors").sha256 == "ab" * 32


def test_a_sha256_in_the_place_of_a_git_digest_is_refused(told, recorded) -> None:
    with pytest.raises(IntegrityError, match="git sha1"):
        told("huggingface", changed(recorded["huggingface"], ("siblings", 0, "blobId"), SHA256))


@pytest.mark.parametrize("protocol", FACTS)
@pytest.mark.parametrize(
    "path",
    [
        "a/" * 3000 + "b",
        "x" * (LONGEST_NAME + 1),
        "/".join(["é" * 127] * 4),
        "/".join("a" * (DEEPEST_PATH + 1)),
        "a\x1b[31mb",
        "\u202egnp.exe",
        "a\ud800b",
    ],
    ids=["long", "long name", "long in bytes", "deep", "escape", "bidi", "surrogate"],
)
def test_a_path_that_no_disk_can_take_is_refused(told, recorded, protocol: str, path: str) -> None:
    with pytest.raises((IntegrityError, NetworkError)) as caught:
        told(protocol, changed(recorded[protocol], fact(protocol, "path"), path))
    assert len(caught.value.what) < 500


@pytest.mark.parametrize("protocol", FACTS)
def test_paths_up_to_the_limits_are_taken(told, recorded, protocol: str) -> None:
    deepest, longest = "/".join("a" * DEEPEST_PATH), "/".join(["b" * LONGEST_NAME] * 3)
    assert len(longest) == LONGEST_PATH - 1
    for path in (deepest, longest):
        _, snapshot = told(protocol, changed(recorded[protocol], fact(protocol, "path"), path))
        assert snapshot.file(path)


RAW = {
    "a thousand levels": "[" * 1000 + "]" * 1000,
    "a million levels": "[" * 1_000_000,
    "5,000 digits": "9" * 5000,
    "half of a surrogate pair": '"\\ud800"',
    "bytes that are no UTF-8": '"\udcff"',
}


@pytest.mark.parametrize("protocol", QUESTIONS)
@pytest.mark.parametrize("raw", RAW.values(), ids=RAW)
def test_json_beyond_the_limits_is_no_listing(told, recorded, protocol: str, raw: str) -> None:
    body = json.dumps({**recorded[protocol], "more": "@"}).replace('"@"', raw)
    with pytest.raises(NetworkError, match="something else than a listing: Invalid JSON"):
        told(protocol, body.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("protocol", QUESTIONS)
def test_what_is_not_read_may_be_anything(told, recorded, protocol: str) -> None:
    body = json.dumps({**recorded[protocol], "more": "@", "tags": {"x": [None]}})
    _, snapshot = told(protocol, body.replace('"@"', '{"a": NaN, "a": Infinity, "b": [[[1e300]]]}').encode())
    assert len(snapshot.files) == 3


def test_a_listing_of_more_files_than_there_may_be_is_refused(
    told, recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    siblings = [{"rfilename": str(number)} for number in range(FILES + 1)]
    with pytest.raises(ListingError, match="siblings: it should have at most 100,000 items"):
        told("huggingface", {"sha": COMMIT, "siblings": siblings})
    with pytest.raises(ListingError, match=r"siblings\[0\]"):
        told("huggingface", {"sha": COMMIT, "siblings": [{}] * 500_000})
    paths = {str(number): {"url": 3} for number in range(FILES + 1)}
    answer = {"msgCode": "10000", "data": {"msgCode": "10000", "data": {"filePaths": paths}}}
    with pytest.raises(ListingError, match="filePaths: it should have at most 100,000 items"):
        told("openxlab", answer)
    monkeypatch.setattr("internlm_zoo.sources.paths.FILES", 2)
    with pytest.raises(IntegrityError, match="more than 2 files"):
        told("modelers", recorded["modelers"])


@pytest.mark.parametrize("filling", ["[],", "0,", '{"a":1},', "[[[[1]]]],"])
def test_values_without_end_are_counted_before_they_are_read(told, filling: str) -> None:
    body = b'{"sha": "%s", "more": [%s 1]}' % (COMMIT.encode(), filling.encode() * 2_000_001)
    with pytest.raises(ListingError, match="more than 2,000,000 values"):
        told("huggingface", body)


DATES = (  # the last but one is of the year 10000 elsewhere
    "99999-01-01T00:00:00Z",
    "2024-13-45T99:99:99Z",
    "0000-00-00T00:00:00Z",
    "9999-12-31T23:59:59-23:59",
    "",
)
TIMES = [1e18, -1e18, 253402300800, 1e300, -0.0]


@pytest.mark.parametrize("date", DATES)
def test_a_date_of_no_calendar_is_none(told, recorded, date: str) -> None:
    _, snapshot = told("huggingface", changed(recorded["huggingface"], ("lastModified",), date))
    assert snapshot.updated is None
    place = ("data", "last_commit", "commit", "created")
    _, snapshot = told("modelers", changed(recorded["modelers"], place, date))
    assert snapshot.updated is None


@pytest.mark.parametrize("time", TIMES, ids=repr)
def test_a_time_of_no_calendar_is_none(told, recorded, time: float) -> None:
    document = recorded["modelscope"]
    for number in range(3):
        document = changed(document, ("Data", "Files", number, "CommittedDate"), time)
    _, snapshot = told("modelscope", document)
    assert snapshot.updated is None and snapshot.files


LINKS = (
    "file:///etc/passwd",
    "ftp://h/x",
    "javascript:alert(1)",
    "//h/x",
    "",
    "http://",
    "http://[::1",
    "http://h:99999/",
    "http://h:0/",
    "http://h/\r\nX: y",
    "http://h/\x00",
    "http://h/" + "x" * 9000,
)


@pytest.mark.parametrize("link", LINKS)
def test_a_link_that_is_no_web_address_is_named(told, recorded, link: str) -> None:
    paths = recorded["openxlab"]["data"]["data"]["filePaths"]
    place = ("data", "data", "filePaths", next(iter(paths)), "url")
    with pytest.raises(ListingError, match=r"data\.data\.filePaths\..*\.url: "):
        told("openxlab", changed(recorded["openxlab"], place, link))


@pytest.mark.parametrize("code", ["20404", "x" * 5000])
def test_a_refusal_says_why_in_a_line(told, code: str) -> None:
    for said in ({"msgCode": code, "msg": "no such model", "data": 3},
                 {"msgCode": "10000", "data": {"msgCode": code, "data": [], "msg": "m" * 9999}}):  # fmt: skip
        with pytest.raises(NotFoundError) as caught:
            told("openxlab", said)
        assert code[:100] in caught.value.what and len(caught.value.what) < 400


@pytest.mark.parametrize("jwt", ["a\r\nX-Evil: 1", "", "é", "x" * 9000, 3, None])
def test_a_token_that_can_be_in_no_header_is_none(told, teller, tmp_path: Path, jwt: Any) -> None:
    from internlm_zoo.registry import Hub
    from internlm_zoo.settings import Settings
    from internlm_zoo.sources import open_source

    data = {"nonce": "n", "algorithm": "HmacSHA256", "jwt": jwt}
    teller.tells({"msgCode": "10000", "data": {"msgCode": "10000", "data": data}})
    keys = ("OPENXLAB_AK", "OPENXLAB_SK")
    hub = Hub(name="somewhere", title="S", protocol="openxlab", endpoint=teller.url, token_env=keys)
    environ = {"HOME": str(tmp_path), **dict.fromkeys(keys, "sesame-key")}
    with pytest.raises(ListingError, match=r"data\.data\.jwt"):
        open_source(hub, Settings(home=tmp_path, environ=environ)).resolve(REPO)


# Pages of links

FILLINGS = {
    "tags that never end": b"<a " * 1_000_000,
    "comments that never end": b"<!--" * 1_000_000,
    "declarations": b"<!" * 1_000_000,
    "names without values": b"<a href" + b" href" * 1_000_000 + b">",
    "quotes": b"<a href=" + b"\"'" * 1_000_000,
    "references": b'<a href="' + b"&#" * 4000 + b'">',
    "a number of 5,000 digits": b'<a href="&#' + b"9" * 5000 + b';">x</a>',
    "a broken address": b'<a href="http://[">x</a>',
}


@pytest.mark.parametrize("filling", FILLINGS.values(), ids=FILLINGS)
def test_a_page_takes_time_in_proportion_to_its_length(told, teller, filling: bytes) -> None:
    """Python's own parser takes hours for some of them."""
    teller.kind = "text/html"
    page = b'<a href="good.txt">x</a>' + filling + b'<a href="other.txt">x</a>'
    try:
        _, snapshot = told("web", page)
    except ZooError:
        return
    assert "good.txt" in {file.path for file in snapshot.files}


@pytest.mark.parametrize("href", ["x" * 1_000_000, "y/" * 2000, "&amp;" * 3000])
def test_a_link_longer_than_any_name_is_refused(told, teller, href: str) -> None:
    teller.kind = "text/html"
    with pytest.raises((ListingError, NotFoundError)):
        told("web", f'<a href="{href}">x</a>'.encode())


HREFS = ("http://elsewhere/x", "//elsewhere/x", "file:///etc/passwd", "../up.txt", "?page=2", "http://[", "#")


def test_links_to_elsewhere_and_to_itself_are_left_out(told, teller) -> None:
    teller.kind = "text/html"
    hrefs = "".join(f'<a href="{href}">x</a>' for href in [*HREFS, "./", "good.txt"])
    teller.asked = 0
    _, snapshot = told("web", hrefs.encode())
    assert [file.path for file in snapshot.files] == ["good.txt"] and teller.asked == 1


def test_a_page_of_more_links_than_files_may_be_is_refused(
    told, teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("internlm_zoo.sources.web.LINKS", 30)
    teller.kind = "text/html"
    with pytest.raises(ListingError, match="more than 30 links"):
        told("web", b'<a href="x">x</a>' * 31)
    assert told("web", b'<a href="x">x</a>' * 30)[1].files


# Several answers of one listing


@pytest.mark.parametrize("protocol", ["modelers", "web"])
def test_a_listing_in_many_answers_ends_at_the_size_of_one(
    told, teller, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.setattr("internlm_zoo.sources.budget.LARGEST", 5000)
    assert endless(told, teller, protocol).what.endswith("it has more than 0 MiB")


@pytest.mark.parametrize("protocol", ["modelers", "web"])
def test_a_listing_in_many_answers_ends_in_time(
    told, teller, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.setattr("internlm_zoo.sources.budget.ROUNDS", 0)
    assert endless(told, teller, protocol).what.endswith("it did not end within 0 s")


@pytest.mark.parametrize("protocol", ["modelers", "web"])
def test_folders_in_folders_end_at_the_longest_address(told, teller: Teller, protocol: str) -> None:
    name, commit = "x" * 4000, {"commit_sha": COMMIT}
    tree = [{"type": "dir", "path": name * 3}]
    bodies = {
        "modelers": {"data": {"tree": tree, "last_commit": {"commit": commit}}},
        "web": f'<a href="{name}/">x</a>'.encode(),
    }
    teller.kind, teller.asked = "text/html" if protocol == "web" else "application/json", 0
    with pytest.raises(ListingError, match="8,192 characters"):
        told(protocol, bodies[protocol])
    assert teller.asked <= 3


def endless(told, teller, protocol: str) -> ListingError:
    """Folders of folders, all the same."""
    commit = {"commit_sha": COMMIT, "created": "2024-07-19T08:00:00Z"}
    tree = [{"type": "dir", "path": f"d{number}"} for number in range(20)]
    page = "".join(f'<a href="d{number}/">x</a>' for number in range(20))
    bodies = {"modelers": {"data": {"tree": tree, "last_commit": {"commit": commit}}}, "web": page.encode()}
    teller.kind = "text/html" if protocol == "web" else "application/json"
    with pytest.raises(ListingError) as caught:
        told(protocol, bodies[protocol])
    return caught.value
