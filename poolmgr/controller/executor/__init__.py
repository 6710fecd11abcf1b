"""Carries moves out, one repeatable step at a time.

`conditions` says what of the world a step waits for, `to_passthrough` and `to_shared` hold the two recipes as pure
functions from a snapshot to the next action, `advance` picks the recipe and minds the deadlines, `execute` is
the only part that does IO. Nothing is remembered between calls: the transition in `GPUNode.spec` and the
observed world say where a move stands, so a successor goes on where its predecessor died.
"""
