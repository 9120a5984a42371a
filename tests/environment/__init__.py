"""Odd environments for the command line: file systems, accounts, limits.

    from tests.environment import ENVIRONMENTS, Environment, run_in
    done = run_in(ENVIRONMENTS["no links"], ["download", "tiny"], world.environ, odd=world.home)
    assert done.code == 0, done.err

`ENVIRONMENTS` is the table, by name; a test may make an `Environment` of its own. See table.py, and shim.c
with shim.py for the calls that can be made to fail, and for a clock that is wrong (SHIM_CLOCK, in seconds).
`everybodys` is a folder that every account may enter (pytest's own are the owner's alone):
`open_world(everybodys, stack)` for what runs as somebody else.
"""

from tests.environment.places import Done, open_folder, run_in, words
from tests.environment.table import ENVIRONMENTS, NOBODY, Environment

__all__ = ["ENVIRONMENTS", "NOBODY", "Done", "Environment", "open_folder", "run_in", "words"]
