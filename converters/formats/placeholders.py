"""Refuses what is no file of weights: Git LFS pointers, web pages and empty files, which a clone without LFS,
a proxy's login page or an interrupted copy leave behind, and what is damaged."""

from __future__ import annotations

from typing import NoReturn

from converters.errors import IntegrityError
from converters.formats.bytesource import ByteSource, read_alone

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
WEB_PAGES = (b"<!doctype html", b"<html", b"<?xml")
HEAD = 512


def refuse_damaged(what: str, where: str) -> NoReturn:
    raise IntegrityError(what, where, "the file is truncated or damaged: fetch it again")


def refuse_placeholder(source: ByteSource) -> None:
    """Raises IntegrityError if the file is recognisably not weights at all."""
    head = read_alone(source, 0, min(HEAD, source.size))
    if not head:
        raise IntegrityError("the file is empty", source.name, "fetch it again")
    if head.startswith(LFS_POINTER):
        what = "this is a Git LFS pointer, not the weights it points to"
        raise IntegrityError(what, source.name, "run `git lfs pull`, or download the model")
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:16].lower().startswith(WEB_PAGES):
        what = "this is a web page saved under the name of a weights file"
        fix = "the server answered with a page: look at it, sign in if it asks to, and fetch the file again"
        raise IntegrityError(what, source.name, fix)
