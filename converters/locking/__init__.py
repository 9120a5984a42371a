"""Files that one process at a time holds, in whatever container, account or machine it is."""

from converters.locking.guard import LockFile, held, holder_of, take
from converters.locking.holder import Holder

__all__ = ["Holder", "LockFile", "held", "holder_of", "take"]
