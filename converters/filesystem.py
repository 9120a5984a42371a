"""What file systems do not have in common, decided in one place.

What a file system does not know (`is_unknown`) is worked around. Facts: chmod(2), fsync(2), flock(2),
link(2), rename(2), posix_fallocate(3), write(2), setrlimit(2) of Linux's man-pages.
"""

from __future__ import annotations

import errno

# The call is not there, in this kernel or for this file system. fsync(2) says so with EINVAL: what it is
# given "does not support synchronization".
_UNKNOWN = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})


def is_unknown(error: OSError) -> bool:
    """Whether the file system does not know what it was asked, rather than fail at it."""
    return error.errno in _UNKNOWN
