"""A conversation with a loaded model: its chat template renders each turn with all that came before.

All of it is read anew for each answer. Keys and values kept from the answer before would spare that, and in
bfloat16 they are rounded otherwise: 8 of 240 answers of a demo model were others than `generate` gives.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from converters.redaction import errors_redacted
from internlm_zoo.errors import UnsupportedError
from internlm_zoo.loading.answer import Answer, check_length, written_after
from internlm_zoo.loading.directory import ModelDirectory
from internlm_zoo.loading.generate import Message, encode_turns, require_writing, writes_nothing
from internlm_zoo.loading.load import Loaded
from internlm_zoo.registry import Model
from internlm_zoo.registry.schema import takes_turns

_BEGIN_ANEW = "begin a new conversation (/reset, in Python `reset()`), or take a model with a longer context"
_OTHERWISE = "take a chat model; `internlm-zoo generate` goes on with a text"
# Any text: does the template write it?
_PROBE: Message = {"role": "user", "content": "?"}


def require_turns(directory: ModelDirectory) -> None:
    """Raises UnsupportedError for a model that nobody can talk to."""
    require_writing(directory)
    if directory.takes_turns:
        return
    if directory.kind is None:
        what = "nothing says which model this is, and there is no chat template in it"
        raise UnsupportedError(what, directory.title, f"`known_as=MODEL` says which it is, or {_OTHERWISE}")
    raise _no_turns(directory.kind, directory.title)


def require_turns_of(model: Model) -> None:
    """The same by what the registry says, before anything of it is downloaded."""
    if not takes_turns(model.kind):
        raise writes_nothing(model.name) if model.kind == "reward" else _no_turns(model.kind, model.name)


def _no_turns(kind: str, title: str) -> UnsupportedError:
    what = f"it is a {kind} model, which goes on with a text and takes no turns"
    return UnsupportedError(what, title, _OTHERWISE)


def template_note(directory: ModelDirectory) -> str | None:
    """Which chat template is used, where the files have none or nothing says which model they are."""
    if directory.kind is None:
        which = f"its own chat template is used ({directory.own_template})"
        return f"nothing says which model this is: {which}, and `known_as=MODEL` says which it is"
    if directory.own_template is not None:
        return None
    return f"there is no chat template in its files: that of {directory.title} in the registry is used"


class Chat:
    """title: the model's. messages: what was said, `role` and `content` of each turn, the system's first if
    there is one. No turn is in it before its answer is, or what there is of one that was cancelled."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        system: str | None = None,
        max_new_tokens: int = 512,
        warn: Callable[[str], None] = lambda note: None,
    ) -> None:
        """system: what the model is told before all turns. max_new_tokens: of the longest answer. warn: gets
        a sentence once the conversation is longer than what the model was trained on. Raises UnsupportedError
        for a model that takes no turns, and for a template that leaves the system's out, NotFoundError
        without a tokenizer."""
        require_turns(loaded.plan.directory)
        self.title = loaded.plan.directory.title
        self._loaded, self._most, self._warn = loaded, max_new_tokens, warn
        self._system: list[Message] = [{"role": "system", "content": system}] if system else []
        without = encode_turns(loaded, [_PROBE])
        if system and encode_turns(loaded, [*self._system, _PROBE]) == without:
            what = "its chat template has no place for a system's turn"
            raise UnsupportedError(what, loaded.plan.directory.title, "say it in the first turn")
        self.reset()

    def reset(self) -> None:
        """Begin a new conversation, with the same system's turn."""
        self.messages = [*self._system]
        self._warned = False

    @errors_redacted()
    def ask(
        self,
        text: str,
        *,
        stream: Callable[[str], None] | None = None,
        cancel: Event | None = None,
    ) -> Answer:
        """The model's answer to a user's turn, always the most likely token; its tokens are those that the
        whole conversation, rendered anew, is answered with.

        stream: gets each piece of it, whole characters. cancel: once it is set the answer ends where it is.
        Raises UnsupportedError where the conversation is longer than the model serves, UsageError for what is
        no text; then, and where anything else is raised, the turn was not said.
        """
        asked: list[Message] = [*self.messages, {"role": "user", "content": text}]
        ids = encode_turns(self._loaded, asked)
        self._check_length(len(ids), 0)
        tell = stream or (lambda piece: None)
        answer = written_after(self._loaded, ids, self._most, tell, cancel)
        self._check_length(len(ids), answer.tokens)
        self.messages = [*asked, {"role": "assistant", "content": answer.text}]
        return answer

    def _check_length(self, prompt: int, answer: int) -> None:
        check_length(self._loaded.plan, prompt, answer, self._warn_once, _BEGIN_ANEW)

    def _warn_once(self, note: str) -> None:
        if not self._warned:
            self._warned = True
            self._warn(note)
