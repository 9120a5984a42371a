"""Gathers the pages of the site: those of docs/, some from outside of it, and the references, of the code.

    python tools/docs build/docs

Every page is read on GitHub, too, so a link names a file by its place in the repository. On the site a file
that is a page is that page, and any other its place on GitHub. Exits with 1 if a link names a file that is
not there; links among the pages, and anchors, are MkDocs's to check (mkdocs.yml).
"""

from __future__ import annotations

import posixpath
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path

import api_pages
import commands_page

ROOT = Path(__file__).resolve().parents[2]
# Pages of the site that lie elsewhere.
_OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
_LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_URLS = dict(url.split(", ") for url in metadata("internlm-zoo").get_all("Project-URL", []))
_REPOSITORY = _URLS["Homepage"]


def main(target: Path) -> int:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(ROOT / "docs", target)
    missing = []
    for source, place in _places():
        text = (ROOT / source).read_text(encoding="utf-8")
        missing += [f"{source} links to {path}, which is not there" for path in _astray(text, source)]
        _write(target / place, _relinked(text, source, place))
    for place, text in {"reference/commands.md": commands_page.page(), **api_pages.pages()}.items():
        _write(target / place, text)
    print("\n".join(missing), file=sys.stderr)
    return 1 if missing else 0


def _places() -> Iterator[tuple[str, str]]:
    """Each page's source in the repository and its place on the site."""
    yield from _OUTSIDE.items()
    for page in sorted((ROOT / "docs").rglob("*.md")):
        yield page.relative_to(ROOT).as_posix(), page.relative_to(ROOT / "docs").as_posix()


def _write(page: Path, text: str) -> None:
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text, encoding="utf-8")


def _prose(text: str) -> list[str]:
    """The text, cut where blocks of code begin and end: these are every second part."""
    return _FENCE.split(text)


def _named(link: str, source: str) -> str:
    """The file, from the root of the repository, that a link of `source` names."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _astray(text: str, source: str) -> list[str]:
    links = (link for part in _prose(text)[::2] for link in _LINK.findall(part))
    named = (_named(link, source) for link in links)
    return [path for path in named if not path.startswith("../") and not (ROOT / path).exists()]


def _relinked(text: str, source: str, place: str) -> str:
    parts = _prose(text)
    parts[::2] = [
        _LINK.sub(lambda link: _target(_named(link[1], source), place), part) for part in parts[::2]
    ]
    return "".join(parts)


def _target(named: str, place: str) -> str:
    """How the page `place` links to a file of the repository."""
    if named in _OUTSIDE or named.startswith("docs/"):
        page = _OUTSIDE.get(named, named.removeprefix("docs/"))
        return posixpath.relpath(page, posixpath.dirname(place) or ".")
    if named.startswith("../"):  # `../../security` is a page of the repository on GitHub
        return f"{_REPOSITORY}/{named.removeprefix('../../')}"
    return f"{_REPOSITORY}/{'tree' if (ROOT / named).is_dir() else 'blob'}/main/{named}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
