"""The ledger: what was decided, done, asked for and observed, in SQL. The only package that knows SQL.

It is history, never truth: the manager works without it. Start at `ledger` (writes) and `history` (reads).
"""
