"""Released code files, for those who open an hf result with AutoModel: copied as they are, never run.

transformers knows Llama's classes and none of InternLM's: a config.json of these families opens there only
with the files that its auto_map names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from converters.containers.files import read_json
from converters.containers.names import CONFIG
from converters.errors import NotFoundError, UnsupportedError, UsageError
from converters.formats.access import is_directory, no_directory
from converters.formats.folder import LocalFolder, read_whole
from converters.formats.links import is_enclosed
from converters.options import ConversionOptions

AUTO_MAP = "auto_map"
CODE = re.compile(r"(configuration|modeling|tokenization)_\w+\.py")


def code_entries(options: ConversionOptions) -> Mapping[str, object]:
    """What the config of a target says of code files that go with it. Raises UsageError for a target that
    needs none, and what `auto_map_of` raises."""
    if options.code is None:
        return {}
    if options.to != "hf":
        what = f"code files go with hf, not with {options.to}"
        raise UsageError(what, "`code`", "leave it out: llama needs none")
    return {AUTO_MAP: auto_map_of(options.code)}


def auto_map_of(directory: Path) -> Mapping[str, object]:
    """Which class of which of its code files transformers takes for what, as its config.json says.

    Raises NotFoundError if it is no directory with code files and a config.json, UsageError for an auto_map
    that is missing, or names a file that is not there, UnsupportedError for code of another repository.
    """
    names = code_in(directory)
    auto_map = read_json(LocalFolder(directory), CONFIG).get(AUTO_MAP)
    if not isinstance(auto_map, dict) or not auto_map:
        what = f"there is no {AUTO_MAP} in it"
        raise UsageError(what, directory / CONFIG, "name a directory as it was released")
    for reference in _references(auto_map):
        if "--" in reference:
            raise UnsupportedError(f"{AUTO_MAP} names code of another repository: {reference}", directory)
        if f"{reference.partition('.')[0]}.py" not in names:
            raise UsageError(f"{AUTO_MAP} names {reference}, whose file is not there", directory)
    return auto_map


def code_in(directory: Path) -> Mapping[str, bytes]:
    """Name -> content of its code files. Raises NotFoundError if there are none, UsageError for a link that
    leads out of the directory."""
    if not is_directory(directory):
        raise no_directory(directory)
    folder = LocalFolder(directory)
    names = tuple(name for name in folder.names() if CODE.fullmatch(name))
    if not names:
        raise NotFoundError("there are no code files in it: configuration_*.py, modeling_*.py", directory)
    for name in names:
        if not is_enclosed(directory, name):
            raise UsageError("it is a link that leads out of the directory", directory / name)
    files = {name: read_whole(folder, name) for name in names}
    folder.confirm()
    return files


def _references(auto_map: Mapping[str, object]) -> Iterator[str]:
    """`module.Class`, one or several per kind: tokenizers have a slow and a fast one, or null."""
    for value in auto_map.values():
        for reference in value if isinstance(value, list) else [value]:
            if reference is not None:
                yield str(reference)
