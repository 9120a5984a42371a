"""Draws docs/images/architecture.svg: every room, what it is, and what it imports, read from the code.

    python tools/architecture.py            # draw it anew
    python tools/architecture.py --check    # fail if it is not what the code says (`make lint`)

The order of the rooms is that of the contracts in pyproject.toml (`[tool.importlinter]`), which import-linter
holds the code to. An arrow that others imply (a -> b -> c implies a -> c) is left out.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

import grimp
from importlinter.api import read_configuration

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
ROW, LEFT, WIDTH = 30, 170, 1000
HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 WIDTH HEIGHT"
font-family="sans-serif" font-size="13">
<style>
.r{fill:#f6f8fa;stroke:#d0d7de} .c{fill:#fff8c5;stroke:#d4a72c} .t{font-weight:600;fill:#1f2328}
.s{fill:#57606a;font-size:12px} .a{stroke:#8c959f;fill:none;marker-end:url(#h)}
</style>
<defs><marker id="h" markerWidth="7" markerHeight="8" refX="6" refY="4" orient="auto">
<path d="M0 0 7 4 0 8z" fill="#57606a"/></marker></defs>
<rect width="WIDTH" height="HEIGHT" fill="#ffffff"/>"""


def layers() -> Mapping[str, Sequence[str]]:
    """Package -> its rooms, the highest first, by the contracts."""
    contracts = read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]
    return {
        contract["containers"][0]: [room.strip() for layer in contract["layers"] for room in layer.split("|")]
        for contract in contracts
        if contract["type"] == "layers"
    }


def arrows(graph: grimp.ImportGraph, package: str, rooms: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Which room imports which, without what other arrows imply. The rooms are squashed in the graph."""
    uses = {room: set[str]() for room in rooms}
    for room in rooms:
        for imported in graph.find_modules_directly_imported_by(f"{package}.{room}"):
            other = imported.removeprefix(f"{package}.")
            if other in uses and other != room:
                uses[room].add(other)
    for room in rooms:
        implied = set[str]().union(*(_below(uses, other) for other in uses[room]))
        yield from ((room, other) for other in rooms if other in uses[room] - implied)


def _below(uses: Mapping[str, set[str]], room: str) -> set[str]:
    return uses[room].union(*(_below(uses, other) for other in uses[room]))


def described(package: str, room: str) -> str:
    """The first sentence of the room's docstring."""
    place = ROOT / package / room
    text = (place / "__init__.py" if place.is_dir() else place.with_suffix(".py")).read_text(encoding="utf-8")
    said = " ".join((ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0].split())
    said = said.split(". ")[0].rstrip(".").replace("`", "")
    return said if len(said) < 100 else said.split(":")[0]


def picture() -> str:
    graph = grimp.build_graph("internlm_zoo", "converters")
    body: list[str] = []
    top = 16
    for package, rooms in layers().items():
        for room in rooms:
            graph.squash_module(f"{package}.{room}")
        body.append(f'<text class="t" x="{LEFT}" y="{top + 14}" font-size="15">{package}/</text>')
        at = {room: top + 26 + number * ROW for number, room in enumerate(rooms)}
        for room, y in at.items():
            kind, width = "c" if package == "converters" else "r", WIDTH - LEFT - 16
            body += [
                f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{width}" height="{ROW - 6}" rx="5"/>',
                f'<text class="t" x="{LEFT + 10}" y="{y + 16}">{room}</text>',
                f'<text class="s" x="{LEFT + 115}" y="{y + 16}">{escape(described(package, room))}</text>',
            ]
        for room, other in arrows(graph, package, rooms):
            y, end = at[room] + 14, at[other] + 10
            out = round(LEFT - 1.3 * (12 + (LEFT - 24) * ((end - y) / (ROW * len(rooms))) ** 0.6))
            path = f"M{LEFT} {y}C{out} {y} {out} {end} {LEFT - 1} {end}"
            body.append(f'<path class="a" d="{path}"><title>{room} imports {other}</title></path>')
        top += 40 + ROW * len(rooms)
    return "\n".join([HEAD.replace("WIDTH", str(WIDTH)).replace("HEIGHT", str(top)), *body, "</svg>", ""])


def main() -> None:
    drawn = picture()
    if "--check" not in sys.argv[1:]:
        PICTURE.write_text(drawn, encoding="utf-8")
    elif PICTURE.read_text(encoding="utf-8") != drawn:
        sys.exit("docs/images/architecture.svg is not what the code says; run: python tools/architecture.py")


if __name__ == "__main__":
    main()
