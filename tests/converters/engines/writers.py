"""Who of a Ray cluster writes files, and what may become of them: stopped, killed, lost with their node."""

from __future__ import annotations

import threading
from contextlib import suppress

import psutil

SHARDS = {"to": "hf", "max_shard_size": "2MB"}


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


class Writers:
    """While it is open, looks for processes of the cluster that are writing a file of a conversion, and calls
    `found` with each; keeps which raylets they belong to."""

    def __init__(self, cluster, found=lambda process: None):
        self.raylets = {node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()}
        self.seen = set()
        self._found = found
        self._thread = threading.Thread(target=self._look)
        self._over = threading.Event()

    def _look(self):
        while not self._over.is_set():
            for raylet in self.raylets:
                with suppress(psutil.Error):  # a process that has just ended
                    for process in psutil.Process(raylet).children():
                        if writes(process):
                            self.seen.add(raylet)
                            self._found(process)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._over.set()
        self._thread.join()


def writes(process):
    with suppress(psutil.Error):
        return any(file.path.endswith(".safetensors") for file in process.open_files())
    return False


class Kills:
    """Kills processes in the middle of a file, as many as there are to kill."""

    def __init__(self, left):
        self.left = left
        self._killed = set()

    def __call__(self, process):
        process.suspend()
        if self.left and process.pid not in self._killed and writes(process):
            self._killed.add(process.pid)
            self.left -= 1
            process.kill()
        process.resume()


class Waiters:
    """Stops a process that writes until processes of as many nodes do."""

    def __init__(self, nodes):
        self._nodes = nodes
        self._stopped = {}

    def __call__(self, process):
        if len(self._stopped) < self._nodes and process.ppid() not in self._stopped:
            process.suspend()
            self._stopped[process.ppid()] = process
            if len(self._stopped) == self._nodes:
                for stopped in self._stopped.values():
                    stopped.resume()


class Loses:
    """Kills a node in the middle of a file; until it has one, who writes elsewhere is stopped."""

    def __init__(self, raylet):
        self.done = False
        self._raylet = psutil.Process(raylet)
        self._stopped = []

    def __call__(self, process):
        if self.done:
            return
        process.suspend()
        self._stopped.append(process)
        if process.ppid() == self._raylet.pid:
            self.done = True
            self._raylet.kill()
            self._stopped.pop().kill()
            for stopped in self._stopped:
                stopped.resume()
