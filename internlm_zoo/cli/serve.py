"""`serve`: a directory of releases, answering to every hub's clients until it is told to stop."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.shell import Shell, verb
from internlm_zoo.errors import NotFoundError, UnsupportedError, UsageError
from internlm_zoo.secret import place_of, read_text, secret_of

if TYPE_CHECKING:
    from internlm_zoo.serve.background import Server

TOKEN_VARIABLE = "INTERNLM_ZOO_SERVE_TOKEN"
_POLL_SECONDS = 0.5


@verb("serve", example="internlm-zoo serve ./mirror --port 8000")
def serve(
    shell: Shell,
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Holds ORG/NAME/ folders; a mirror does.")],
    host: Annotated[str, "Address to listen on."] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on; 0 takes any free one.")] = 8000,
    token_file: Annotated[Path | None, "Let in who has one of these tokens, one a line."] = None,
    certificate: Annotated[Path | None, "Speak https: a PEM file, chain and all."] = None,
    key: Annotated[Path | None, "Its private key, if that is in another file."] = None,
) -> None:
    """Serve releases to huggingface_hub, modelscope, openmind_hub, openxlab and all built on them, read-only.

    Tokens come from --token-file or INTERNLM_ZOO_SERVE_TOKEN; without any, everyone may read.

    openmind_hub takes https alone: see docs/mirror.md.
    """
    if directory.startswith("s3://"):
        what = "serve reads directories, not buckets"
        raise UnsupportedError(what, directory, fix="mirror it to a directory")
    from internlm_zoo.serve.app import build_app
    from internlm_zoo.serve.background import EVERYWHERE, start

    _require_name(host)
    root = Path(directory)
    tokens = _tokens(token_file, shell.settings.environ)
    tls = _tls(certificate, key)
    # To be told to stop is how it ends well.
    with (
        suppress(KeyboardInterrupt),
        start(build_app(root, tokens=tokens), port=port, host=host, tls=tls) as server,
    ):
        shell.answer(_announcement(root, server, guarded=bool(tokens)))
        shell.note(f"serving {root} at {server.url}; Ctrl-C stops it")
        if host in EVERYWHERE and not tokens:
            shell.note("whoever reaches this machine may read it: --token-file lets in who has a token")
        while True:
            time.sleep(_POLL_SECONDS)  # Windows notices a signal only between two waits


def _require_name(host: str) -> None:
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise UsageError("--host is not the name of a host", host, "write it as 127.0.0.1") from error


def _tokens(file: Path | None, environ: Mapping[str, str]) -> frozenset[str]:
    if file is None:
        token = secret_of(environ.get(TOKEN_VARIABLE, ""), TOKEN_VARIABLE)
        return frozenset({token.value} if token else ())
    try:
        found = [secret_of(word, str(file)) for word in read_text(place_of(file)).split()]
    except FileNotFoundError as error:
        raise NotFoundError("there is no such token file", file) from error
    tokens = frozenset(secret.value for secret in found if secret)
    if not tokens:
        what = "the token file holds no token"
        raise UsageError(what, file, fix="write one token a line, or leave --token-file out")
    return tokens


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        if key is not None:
            raise UsageError("--key is the key of no certificate", key, "name its --certificate")
        return None
    for file in filter(None, (certificate, key)):
        if not file.is_file():
            raise NotFoundError("there is no such file", file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password="")  # else it would ask on the terminal
    except ssl.SSLError as error:
        what = "it is not a PEM certificate with its private key, without a password"
        raise UsageError(what, certificate, "name the file of the key with --key") from error
    return context


def _announcement(root: Path, server: Server, *, guarded: bool) -> CommandResult:
    from internlm_zoo.serve.app import environment
    from internlm_zoo.serve.catalogue import Catalogue

    variables = environment(server.url)
    data = {"url": server.url, "root": root, "guarded": guarded, "environment": variables}
    data["repositories"] = Catalogue(root).names()
    return CommandResult(data, [f"export {name}={value}" for name, value in variables.items()])
