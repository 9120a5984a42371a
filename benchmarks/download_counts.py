"""What downloads cost beyond the first: requests when all is here, bytes after a kill and for a repair.

Counted in the access log of nginx, where the bytes that were on their way at a kill are counted as sent.
"""

from __future__ import annotations

import filecmp
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fixtures import bench, clients, processes
from fixtures.clients import OURS, Job
from fixtures.origin import Origin, bytes_of_files, origin
from fixtures.releases import Release
from fixtures.results import publish, table

HUB_CLIENTS = (OURS, "hf download", "modelscope download")
KILLED = (*HUB_CLIENTS, "curl", "aria2c -x8")
# How each client is asked to make a wrong file right.
REPAIRS = (
    (OURS, "verify --repair", "--repair"),
    ("hf download", "again", ""),
    ("hf download", "--force-download", "--force-download"),
    ("modelscope download", "again", ""),
    ("modelscope download", "--force", "--force"),
)
PLACES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Scene:
    place: bench.Place
    server: Origin
    release: Release

    @property
    def job(self) -> Job:
        return self.place.job(self.release, self.server.url)

    def fresh(self, name: str) -> list[str]:
        """The command of a client whose folder is empty."""
        clients.empty(self.job.folder)
        return clients.prepared(name, self.job)

    def run(self, command: list[str]) -> int:
        """Bytes of files that it made the server send."""
        self.server.forget()
        processes.run(command, self.job.environ, self.job.folder)
        return bytes_of_files(self.server.answered())

    def file(self) -> Path:
        """The only file of the release, as the client has it."""
        return next(iter(clients.files_in(self.job.folder, self.release).values())).resolve()

    def right(self) -> str:
        source = next(self.place.source(self.release).iterdir())
        return "yes" if filecmp.cmp(self.file(), source, shallow=False) else "**no**"


def main() -> None:
    options = bench.options(__doc__)
    chosen = [options.one_file, options.many_files]
    with (
        bench.place(options.directory, chosen) as place,
        origin(place.hub, place.folder / "nginx") as server,
    ):
        one, many = (Scene(place, server, release) for release in chosen)
        complete = [complete_again(many, name) for name in HUB_CLIENTS]
        killed = [killed_at_half(one, name) for name in KILLED]
        repaired = [repair(one, *how) for how in REPAIRS]
    size = f"{one.release.size / 2**30:.2g} GiB"
    publish(
        "download-counts",
        "Requests and bytes beyond the first download",
        "python benchmarks/download_counts.py",
        options.directory,
        f"The same command again, when the release of {len(many.release.sizes)} files is complete:",
        table(("client", "requests", "s"), complete),
        f"One file of {size}; SIGKILL when the server has sent half of it, then the same command again. "
        "Bytes that were on their way when the client was killed count as sent, for all alike:",
        table(
            ("client", "sent before the kill (MB)", "sent after it (MB)", "sent twice (MB)", "right"), killed
        ),
        f"Three wrong bytes in the finished file of {size}, in three places far apart:",
        table(("client", "asked with", "fetched (MB)", "right afterwards"), repaired),
        document=options.document,
    )


def complete_again(scene: Scene, name: str) -> list[object]:
    command = scene.fresh(name)
    scene.run(command)
    scene.server.forget()
    seconds = processes.run(command, scene.job.environ, scene.job.folder).seconds
    return [f"`{name}`", len(scene.server.answered()), seconds]


def killed_at_half(scene: Scene, name: str) -> list[object]:
    command = scene.fresh(name)
    scene.server.forget()
    half = scene.server.left() + scene.release.size // 2
    if not processes.run_and_kill(
        command, scene.job.environ, scene.job.folder, lambda: scene.server.left() >= half
    ):
        raise SystemExit(f"{name} ended before it could be killed")
    before = bytes_of_files(scene.server.answered())
    after = scene.run(command)
    again = before + after - scene.release.size
    return [f"`{name}`", *(f"{count / 1e6:.1f}" for count in (before, after, again)), scene.right()]


def repair(scene: Scene, name: str, how: str, option: str) -> list[object]:
    command = scene.fresh(name)
    scene.run(command)
    spoil(scene.file())
    if name == OURS:
        command = [*command[:1], "verify", scene.release.model, option]
        if (
            option
            not in subprocess.run([command[0], "verify", "--help"], capture_output=True, text=True).stdout
        ):
            return [f"`{name}`", how, "skipped", "there is no such option yet"]
    fetched = scene.run([*command, *([option] if option and name != OURS else [])])
    return [f"`{name}`", how, f"{fetched / 1e6:.1f}", scene.right()]


def spoil(path: Path) -> None:
    """Another byte in three places; size and mode stay."""
    mode = path.stat().st_mode
    path.chmod(0o600)
    with path.open("r+b") as file:
        for share in PLACES:
            at = int(path.stat().st_size * share)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 0xFF]))
    path.chmod(mode)


if __name__ == "__main__":
    main()
