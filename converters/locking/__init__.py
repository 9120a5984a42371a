"""Files that one process at a time holds, in whatever container, account or machine it is."""

from converters.locking.guard import Guard, held, holder_of, take
from converters.locking.holder import Holder

__all__ = ["Guard", "Holder", "held", "holder_of", "take"]
