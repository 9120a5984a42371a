"""Programs that use the official packages as their users do; each runs in a process of its own.

Each takes one JSON object as its argument and prints one: every call it made, with what came of it.
"""
