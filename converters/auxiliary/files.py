"""The files of a tokenizer as they lie in a folder, or as someone names them: recognised by name, a lone
model of another name by its content.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from converters.containers.files import AGAIN, json_object
from converters.containers.names import TOKENIZER_FILES
from converters.errors import IntegrityError, NotFoundError, UsageError
from converters.formats.access import content_of, is_directory, reading
from converters.formats.bytesource import LocalFile, MemoryFile
from converters.formats.folder import SMALL, Folder, LocalFolder, read_whole
from converters.formats.placeholders import refuse_placeholder
from converters.tokenizer.model_proto import SentencepieceModel, read_model
from converters.tokenizer.tokenizer_json import dump

SENTENCEPIECE = "tokenizer.model"
FAST = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
SPECIAL = "special_tokens_map.json"
ADDED = "added_tokens.json"
TEMPLATE = "chat_template.jinja"
TEMPLATES = "additional_chat_templates"
DEFAULT = "default"
_MODEL, _JINJA = ".model", ".jinja"
MAX_TEMPLATE = 1 << 20
"""Of a chat template in bytes; released ones have up to 20 KB."""
MAX_FILES = 64
"""Of a tokenizer, its templates among them."""


@dataclass(frozen=True)
class TokenizerFiles:
    """where: what errors call the folder. content: by the name a target gives it; the templates of
    transformers 5 by their path."""

    where: str
    content: Mapping[str, bytes]

    def path(self, name: str) -> str:
        return f"{self.where}/{name}"

    def json(self, name: str) -> dict[str, Any]:
        """The object in a file; empty if it is not there. Raises IntegrityError for anything else."""
        return json_object(self.content.get(name, b"{}"), self.path(name))

    def text(self, name: str) -> str:
        """Raises IntegrityError for what is not UTF-8."""
        try:
            return self.content[name].decode()
        except UnicodeDecodeError:
            raise IntegrityError("it is not UTF-8 text", self.path(name), AGAIN) from None

    def model(self) -> SentencepieceModel:
        """What its tokenizer.model, which is there, says. Raises IntegrityError for a damaged one."""
        return read_model(MemoryFile(self.path(SENTENCEPIECE), self.content[SENTENCEPIECE]))


def files_in(folder: Folder) -> TokenizerFiles:
    """Those of a folder. InternEvo's own name for its model, tokenizer_internlm.model, is as good as any; the
    templates that transformers 5 keeps in a folder become the list in tokenizer_config.json that 4 reads too.
    """
    names = names_in(folder)
    if len(names) > MAX_FILES:
        raise IntegrityError(f"it holds {len(names)} chat templates", folder.where(TEMPLATES))
    content = {
        name: read_whole(folder, stored, MAX_TEMPLATE if name.endswith(_JINJA) else SMALL)
        for name, stored in names.items()
    }
    files = TokenizerFiles(folder.name, content)
    return _listed(files) if any(name.startswith(TEMPLATES) for name in content) else files


def own_template(folder: Folder) -> str | None:
    """The file that has the chat template of a folder; None if it has none. Raises IntegrityError for damaged
    settings."""
    here = names_in(folder)
    if TEMPLATE in here or f"{TEMPLATES}/{DEFAULT}{_JINJA}" in here:
        return TEMPLATE
    if SETTINGS not in here:
        return None
    settings = json_object(read_whole(folder, SETTINGS, SMALL), folder.where(SETTINGS))
    return SETTINGS if settings.get("chat_template") is not None else None


def names_in(folder: Folder) -> dict[str, str]:
    """Name in a target -> name in the folder."""
    here = folder.names()
    names = {name: name for name in TOKENIZER_FILES if name in here}
    models = [name for name in here if name.endswith(_MODEL)]
    if SENTENCEPIECE not in names and len(models) == 1:
        names[SENTENCEPIECE] = models[0]
    templates = (f"{TEMPLATES}/{name}" for name in folder.names(TEMPLATES) if name.endswith(_JINJA))
    return {**names, **{name: name for name in templates}}


def _listed(files: TokenizerFiles) -> TokenizerFiles:
    templates = {
        DEFAULT if name == TEMPLATE else PurePath(name).stem: files.text(name)
        for name in files.content
        if name.endswith(_JINJA)
    }
    named = [{"name": name, "template": text} for name, text in templates.items()]
    kept = {name: content for name, content in files.content.items() if not name.endswith(_JINJA)}
    settings = files.json(SETTINGS)
    if isinstance(settings.get("chat_template"), str) and DEFAULT not in templates:
        named.insert(0, {"name": DEFAULT, "template": settings["chat_template"]})
    changed = dump({**settings, "chat_template": named}, SETTINGS)
    return TokenizerFiles(files.where, {**kept, SETTINGS: changed})


def files_given(path: Path) -> TokenizerFiles:
    """A tokenizer that someone names: a directory, a sentencepiece model or a tokenizer.json of any name.

    Raises NotFoundError if it is not there or the directory holds none, UsageError for a file that is
    neither, IntegrityError for a Git LFS pointer or a web page in its place.
    """
    with reading(path):
        lone = path.is_file()
    if not lone:
        return _directory(path)
    with LocalFile(path) as file:
        refuse_placeholder(file)
    content = content_of(path, SMALL)
    return TokenizerFiles(str(path.parent), {_kind(content, path): content})


def _directory(path: Path) -> TokenizerFiles:
    folder = LocalFolder(path)
    found = files_in(folder) if is_directory(path) else None
    folder.confirm()
    if found is None or not found.content.keys() & {SENTENCEPIECE, FAST}:
        what = "there is no tokenizer here"
        raise NotFoundError(what, path, f"name a {SENTENCEPIECE} or a directory with one")
    return found


def _kind(content: bytes, path: Path) -> str:
    """Which file of a tokenizer it is."""
    with suppress(IntegrityError):
        read_model(MemoryFile(str(path), content))
        return SENTENCEPIECE
    with suppress(IntegrityError):
        model = json_object(content, str(path)).get("model")
        if isinstance(model, dict) and "vocab" in model:
            return FAST
    what = "this is no tokenizer: neither a sentencepiece model nor a tokenizer.json"
    raise UsageError(what, path, f"name a {SENTENCEPIECE}, a {FAST} or a directory with one")
