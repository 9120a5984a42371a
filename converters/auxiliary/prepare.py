"""What lies beside the weights of a target, made ready before any weight is written: tokenizer and generation
settings, in every direction.

An original directory holds the same files beside its weights as a Hugging Face one, as they are: its programs
read tokenizer.model alone, and the way back finds the rest. Hugging Face formats get a tokenizer that loads
without code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from converters.auxiliary import generation
from converters.auxiliary.code import code_in
from converters.auxiliary.description import describe
from converters.auxiliary.documents import documents_in
from converters.auxiliary.files import SENTENCEPIECE, TokenizerFiles, files_given, files_in
from converters.auxiliary.rewrite import Rewritten, for_transformers
from converters.auxiliary.tokens import TokenizerFacts
from converters.config.facts import Fact
from converters.errors import UnsupportedError, ZooError
from converters.formats.folder import read_whole
from converters.layouts import is_self_contained
from converters.options import ConversionOptions
from converters.source.checkpoint import Checkpoint

NONE = "the source holds no tokenizer, so the result has none: `tokenizer=FILE` adds one"
INSIDE = (
    "the tokenizer inside the GGUF file is not taken out, so the result has none: `tokenizer=FILE` adds one"
)
LEFT_OUT = "the tokenizer was left out, as `no_tokenizer` says"
NO_SCORES = f"there is no {SENTENCEPIECE}, so the GGUF file holds no tokenizer: it is fed with token ids"
NO_MODEL = f"there is no {SENTENCEPIECE}, which is what programs for the original format read"


@dataclass(frozen=True)
class AuxiliaryFiles:
    """source: with the token ids that count, and what a person should know of these files. files: name ->
    content. held: likewise, of what goes into the weights' own file instead."""

    source: Checkpoint
    files: Mapping[str, bytes]
    held: Mapping[str, bytes] = field(default_factory=dict)

    def write(self, target: Path) -> None:
        for name, content in self.files.items():
            (target / name).write_bytes(content)


def prepare_auxiliary(
    source: Checkpoint, options: ConversionOptions, facts: TokenizerFacts
) -> AuxiliaryFiles:
    """What goes beside the weights of a target. facts: what the files of the tokenizer do not say.

    Raises NotFoundError and UsageError for a given tokenizer that is none, IntegrityError for damaged files.
    """
    without, given = options.no_tokenizer, options.tokenizer
    files = files_given(given) if given else files_in(source.folder)
    if without:
        files = TokenizerFiles(files.where, {})
    description = describe(files)
    rows = source.sizes["vocab"]
    made = made_for(options.to, files, facts, rows)
    stated = generation.stated_generation(source)
    stops = generation.stop_ids(files, description, facts, rows)
    ids = generation.settled_ids(source, stated, stops)
    documents = documents_in(source.folder)
    code = code_in(options.code) if options.code else {}
    written = {**documents.files, **code, **made.files, **_generation(source, options.to, stated, ids)}
    inside = is_self_contained(options.to)
    if inside and files.content and SENTENCEPIECE not in files.content:
        made = replace(made, notes=(*made.notes, NO_SCORES))
    nothing = () if files.content else (_why_none(source, without),)
    of_ids = generation.notes_of(source, ids, stops)
    notes = (*source.notes, *made.notes, *of_ids, *nothing, *documents.notes)
    known = replace(source, facts={**source.facts, **ids}, notes=notes)
    return AuxiliaryFiles(known, documents.files, made.files) if inside else AuxiliaryFiles(known, written)


def _why_none(source: Checkpoint, without: bool) -> str:
    if without:
        return LEFT_OUT
    return INSIDE if source.layout.container.self_contained else NONE


def made_for(format: str, files: TokenizerFiles, facts: TokenizerFacts, rows: int | None) -> Rewritten:
    """The tokenizer files as the target has them; as they are where they have no exact counterpart. rows: of
    the embedding, None if that is not known. Raises IntegrityError for damaged files."""
    if format == "original":
        lacking = bool(files.content) and SENTENCEPIECE not in files.content
        return Rewritten(files.content, (NO_MODEL,) if lacking else ())
    try:
        return for_transformers(files, facts, rows)
    except UnsupportedError as error:
        return Rewritten(files.content, (_as_they_are(error),))


def _as_they_are(error: ZooError) -> str:
    return (
        f"there will be no tokenizer.json, so stock transformers has no tokenizer: {error}; the tokenizer's "
        "files are carried as they are, and `tokenizer=DIR` adds another"
    )


def _generation(
    source: Checkpoint, format: str, stated: Mapping[str, object], ids: Mapping[str, Fact]
) -> dict[str, bytes]:
    """Nothing for an original checkpoint cut anew that had none, for a model that writes no text, and where
    there is nothing to say."""
    unsaid = source.format == "original" == format or source.choices.get("kind") == "reward"
    if not stated and unsaid:
        return {}
    content = generation.generation_file(stated, ids)
    made = json.loads(content)
    if not made:
        return {}
    same = stated == made
    return {generation.GENERATION: read_whole(source.folder, generation.GENERATION) if same else content}
