"""Observe, plan, verify, act. IO only through `ports`; what to do next is decided by pure functions."""
