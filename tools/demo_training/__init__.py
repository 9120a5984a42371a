"""Trains the two demo models in plain torch, in the original layout.

Shares no code with `converters`, whose work the golden data made here judge.
"""
