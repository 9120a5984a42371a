"""Opens `file://` locations, which a directory as a hub gives."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from converters.formats.access import regular
from internlm_zoo.errors import IntegrityError, NotFoundError, ZooError
from internlm_zoo.net.statuses import Recovery
from internlm_zoo.transfer.body import Body
from internlm_zoo.transfer.failures import TransferFailure


def open_file(url: str, start: int) -> Body:
    """The bytes from `start` on. Raises TransferFailure."""
    path = Path(url2pathname(urlsplit(url).path))
    try:
        file = open(path, "rb", buffering=0, opener=regular)  # noqa: SIM115 - whoever reads it closes it
    except OSError as error:
        raise TransferFailure(_why(error, path), Recovery.GIVE_UP) from error
    stat = os.fstat(file.fileno())
    file.seek(start)
    return Body(
        url=url,
        start=start,
        length=max(0, stat.st_size - start),
        total=stat.st_size,
        validator=f'"{stat.st_size:x}-{stat.st_mtime_ns:x}"',
        is_html=False,
        read=file.read,
        close=file.close,
    )


def _why(error: OSError, path: Path) -> ZooError:
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"{path.name} is not in the directory", path)
    return IntegrityError(f"{path.name} cannot be read: {error.strerror}", path)
