"""Faults that a search must survive, made on purpose; what was lost is counted.

python -m tests.faults NAME runs one of them as a user would meet it, python -m tests.faults all of
them. docs/faults.md has what came out.
"""
