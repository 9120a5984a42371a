"""Whatever bytes a YAML file holds: values, or a sentence with file, line and column; one reader for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from internlm_zoo.errors import UsageError
from internlm_zoo.mirror.reading import read_mirror_file
from internlm_zoo.registry import document, lock, read_registry
from internlm_zoo.registry.load import shipped
from internlm_zoo.settings import Settings
from tests.fuzz.contract import CORPUS


def laughs(kind: bytes) -> bytes:
    """Nine anchors, each of nine times the one before it: 387 million nodes."""
    lines = [b"a: &a {x: 1}"]
    for number in range(9):
        before, name = bytes([97 + number]), bytes([98 + number])
        lines.append(b"%c: &%c " % (name, name) + kind % b",".join([b"*" + before] * 9))
    return b"\n".join(lines)


WRONG = {
    "laughs": (laughs(b"[%s]"), "its aliases stand for more than 100000 keys and values", 6),
    "merged laughs": (laughs(b"{<<: [%s]}"), "its aliases stand for more than 100000", 6),
    "python": (
        b"a: !!python/object/apply:os.system [x]",
        "the tag !!python/object/apply:os.system is not",
        1,
    ),
    "binary": (b"a: !!binary aGk=", "the tag !!binary is not read", 1),
    "own tag": (b"a:\n - !x y", "the tag !x is not read", 2),
    "set": (b"a: !!set {b}", "the tag !!set is not read", 1),
    "omap": (b"a: !!omap [b: c]", "the tag !!omap is not read", 1),
    "named int": (b"a: !!int b", "the tag !!int is not read", 1),
    "month 13": (b"a:\n  b: 2024-13-01", "2024-13-01 is no date", 2),
    "offset": (b"a: 2001-01-01T00:00:00+99:99", "is no date", 1),
    "digits": (b"a: " + b"9" * 100_000, "a number has 100000 digits", 1),
    "hex": (b"a: 0x_", "0x_ is no number", 1),
    "infinite": (b"a: .inf", ".inf is no finite number", 1),
    "too large": (b"a: 1.0e+999", "1.0e+999 is no finite number", 1),
    "deep": (b"a: " + b"[" * 40 + b"]" * 40, "nested deeper than 32", 1),
    "very deep": (b"[" * 100_000, "nest", 1),
    "long key": (b"? " + b"k" * 1_000_000 + b"\n: 1", "a key has 1000000 characters, more than 1024", 1),
    "key of a list": (b"b: 1\n? [a]\n: b", "a key is not plain text", 2),
    "two documents": (b"a: 1\n---\nb: 2", "a second document begins", 2),
    "NUL": (b"a: 1\nb: \0", "control characters are not allowed", 2),
    "tab": (b"a:\n\t- b", "cannot start any token", 2),
    "not UTF-8": (b"a: 1\nb: \xff", "this is not text in UTF-8", 2),
    "merge of a number": (b"<<: 3", "for merging", 1),
    "no anchor": (b"a: *b", "there is no anchor 'b' before it", 1),
    "itself": (b"a: &x [*x]", "an anchor contains itself", 1),
    "many": (b"a: [" + b"a," * 51_000 + b"]", "it has more than", 1),
    "long": (b"a: '" + b"x" * 5_000_000 + b"'", "it has more than", 1),
}
HARMLESS = {
    "sexagesimal": (b"a: 190:20:30", {"a": "190:20:30"}),
    "a float of them": (b"a: 190:20:30.15", {"a": "190:20:30.15"}),
    "keys": (
        b"1: a\nnull: b\ntrue: c\n2024-13-01: d",
        {"1": "a", "null": "b", "true": "c", "2024-13-01": "d"},
    ),
    "merge as a value": (b"a: <<", {"a": "<<"}),
    "equals": (b"a: =", {"a": "="}),
    "a text": (b"a: !!str 1\nb: ! 2", {"a": "1", "b": "2"}),
    "UTF-16": ("a: é".encode("utf-16"), {"a": "é"}),
    "shared": (b"a: &x [1]\nb: *x\nc: &x 2\nd: *x", {"a": [1], "b": [1], "c": 2, "d": 2}),
    "merged": (b"a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
}


def mirror_file(path: Path) -> object:
    return read_mirror_file(path, read_registry(), Settings(home=path.parent))


@pytest.mark.parametrize("read", [document.read, read_registry, lock.read, mirror_file])
@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_with_file_line_and_column(
    tmp_path: Path, name: str, read: Callable[[Path], object]
) -> None:
    content, words, line = WRONG[name]
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    if name in ("many", "long") and read is lock.read:
        return  # a lock may have as many
    with pytest.raises(UsageError) as caught:
        read(path)
    assert caught.value.exit_code == 2 and str(caught.value).startswith(f"{path}:{line}: ")
    assert words in str(caught.value) and len(str(caught.value)) < 4000


@pytest.mark.parametrize("name", HARMLESS)
def test_what_looks_odd_is_what_it_says(tmp_path: Path, name: str) -> None:
    content, value = HARMLESS[name]
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    assert document.data(document.read(path)) == value


def test_a_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_bytes(b"a: 1\nb: [1, !x 2]\n")
    with pytest.raises(UsageError, match=r"my.yaml:2: the tag !x is not read \(column 8\)"):
        document.read(path)


def test_the_shipped_registry_is_read_as_by_pyyaml() -> None:
    path = shipped("registry.yaml")
    assert document.data(document.read(path)) == yaml.safe_load(path.read_bytes())


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**20), 10**20)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.dates()
        | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("abc<=~", min_size=1), inner, max_size=3)
        ),
        max_leaves=12,
    )
)
def test_what_pyyaml_writes_is_read_as_it_was(tmp_path_factory, value) -> None:
    path = tmp_path_factory.getbasetemp() / "written.yaml"
    path.write_text(yaml.safe_dump({"a": value}, allow_unicode=True), encoding="utf-8")
    assert document.data(document.read(path)) == {"a": value}


def test_there_is_one_reader() -> None:
    """Nothing of the product loads YAML past it."""
    package = Path(document.__file__).parents[1]
    sources = [path for folder in (package, package.parent / "converters") for path in folder.rglob("*.py")]
    readers = [path.name for path in sources if "yaml.parse(" in path.read_text(encoding="utf-8")]
    others = ("yaml.load", "safe_load", "yaml.compose", "SafeLoader(")
    assert readers == ["safe_yaml.py"]
    assert not [path for path in sources if any(word in path.read_text(encoding="utf-8") for word in others)]


@pytest.mark.parametrize("name", ["laughs", "merged laughs", "python", "month 13", "hex", "offset"])
def test_the_corpus_has_what_was_found(name: str) -> None:
    assert (CORPUS / "overlay" / name.replace(" ", "-")).read_bytes() == WRONG[name][0]
