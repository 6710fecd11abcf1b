"""Pure types and units: the words every other package uses.

Nothing here does IO, reads a clock or draws a random number. Read `fleet`, then `demand`, then `plan`.
"""
