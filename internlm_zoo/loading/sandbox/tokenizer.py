"""A checkpoint's tokenizer and chat template as values to ask; the work is done in the child."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from converters.auxiliary.files import FAST, SENTENCEPIECE
from converters.system.filesystem import scratch
from converters.tokenizer.tokenizer_json import check_text
from internlm_zoo.errors import IntegrityError, UnsupportedError, UsageError, ZooError
from internlm_zoo.loading.placement import in_units
from internlm_zoo.loading.sandbox import limits
from internlm_zoo.loading.sandbox.process import ask

Message = Mapping[str, str]
RAW = "`raw=True` leaves the chat template out"
AGAIN = "fetch them again, or make them anew from tokenizer.model"
# What goes around a turn, however short what it says.
_AROUND_TURN = 256


@dataclass(frozen=True)
class ConfinedTokenizer:
    """files: name -> content, as transformers loads them. where: the folder they are of. template_file: the
    file that its chat template is in. fallback: the template where it has none of its own."""

    files: Mapping[str, bytes]
    where: str
    template_file: str
    fallback: str | None

    @property
    def has_template(self) -> bool:
        """Raises what `open` raises."""
        return self._own_template or self.fallback is not None

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Ids of its tokens. special: with those that go before a text and behind it. Raises IntegrityError
        for a tokenizer that fails at it, or goes beyond a limit."""
        most = limits.LIMITS.tokens + limits.LIMITS.per_byte * len(text.encode())
        answer = self._ask("encode", text, text=text, special=special, most=most)
        return list(answer["ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """Their text without special tokens. Raises what `encode` raises."""
        most = limits.LIMITS.text + limits.LIMITS.per_token * len(ids)
        answer = self._ask("decode", ids, ids=list(ids), most=most)
        return str(answer["text"])

    def id_of(self, token: str) -> int | None:
        found: int | None = self._ask("id", token, token=token)["id"]
        return found

    def render(self, messages: Sequence[Message], *, answer: bool) -> str:
        """A conversation as its chat template writes it. answer: up to where the model's begins.

        Raises UnsupportedError for what the template refuses or fails at, with the line, IntegrityError for a
        template that goes beyond a limit.
        """
        said = "".join(text for message in messages for text in message.values())
        most = limits.LIMITS.text + limits.LIMITS.growth * len(said) + _AROUND_TURN * len(messages)
        asked = {"messages": [dict(message) for message in messages], "answer": answer, "most": most}
        template = None if self._own_template else self.fallback
        text = str(self._ask("render", said, **asked, template=template)["text"])
        try:
            check_text(text)
        except UsageError as error:
            raise UnsupportedError(
                f"its chat template writes no text: {error}", self.template_file, RAW
            ) from None
        return text

    @cached_property
    def _own_template(self) -> bool:
        own: bool = self.open()["template"]
        return own

    @cached_property
    def _digest(self) -> str:
        parts = [f"{name}:{len(content)}:".encode() + content for name, content in sorted(self.files.items())]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def open(self) -> dict[str, Any]:
        with scratch() as folder:
            for name, content in self.files.items():
                (folder / name).write_bytes(content)
            return self._answered("open", limits.LIMITS.opening, folder=str(folder))

    def _ask(self, do: str, given: Sequence[Any], **asked: Any) -> dict[str, Any]:
        """given: what it works on, whose length gives it time."""
        seconds = limits.LIMITS.seconds + len(given) // limits.LIMITS.per_second
        answer = self._answered(do, seconds, **asked)
        if "unknown" in answer:
            self.open()
            answer = self._answered(do, seconds, **asked)
        return answer

    def _answered(self, do: str, seconds: int, **asked: Any) -> dict[str, Any]:
        memory = limits.LIMITS.memory
        answer = ask({"do": do, "of": self._digest, **asked}, seconds, memory)
        if "error" not in answer:
            return answer
        failure = Failure(do, **answer["error"])
        beyond = failure.beyond(seconds=seconds, memory=in_units(memory), most=asked.get("most"))
        raise self._of_template(failure, beyond) if do == "render" else self._of_files(failure, beyond)

    def _of_template(self, failure: Failure, beyond: str | None) -> ZooError:
        if failure.name == "TemplateError":
            what = f"its chat template refuses this conversation: {failure.text}"
            return UnsupportedError(what, self.template_file, RAW)
        place = "" if failure.line is None else f"line {failure.line} of "
        if beyond:
            return IntegrityError(f"{place}its chat template {beyond}", self.template_file, RAW)
        why = _ALONE if failure.text == _NO_LOADER else str(failure)
        return UnsupportedError(
            f"{place}its chat template cannot be rendered: {why}", self.template_file, RAW
        )

    def _of_files(self, failure: Failure, beyond: str | None) -> ZooError:
        name = FAST if FAST in self.files else SENTENCEPIECE
        where = self.where if failure.do == "open" else f"{self.where}/{name}"
        if beyond:
            return IntegrityError(f"its tokenizer {beyond}", where, AGAIN)
        what = "files cannot be read" if failure.do == "open" else f"fails to {failure.do} this"
        return IntegrityError(f"its tokenizer {what}: {failure}", where, AGAIN)


@dataclass(frozen=True)
class Failure:
    """do: what was being done. kind: the limit, or that again. name: of the exception. line: of the
    template."""

    do: str
    kind: str
    name: str
    text: str
    line: int | None

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"

    def beyond(self, **figures: Any) -> str | None:
        """What is said of a limit, if it is one."""
        said = _BEYOND.get(self.kind)
        return said and said.format(**figures, count=self.text, unit=_UNITS.get(self.do))


_BEYOND = {
    "time": "runs for more than {seconds} s",
    "memory": "takes more than {memory} of memory",
    "long": "makes {count} {unit} of this, and {most} are the most that it may",
    "killed": "was stopped by the system, which has no memory left",
    "crash": "crashes the process that it runs in",
}
_UNITS = {"encode": "tokens", "decode": "characters", "render": "characters"}
_NO_LOADER = "no loader for this environment specified"
_ALONE = "it asks for another template (include, import or extends), and a checkpoint's stands alone"
