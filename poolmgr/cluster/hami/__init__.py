"""HAMi: its annotations decoded, its version found, and the levers by which it lets go of a GPU.

The formats and the order of the recipe are in docs/reference/hami-versions.md and
docs/explanation/taking-a-gpu-from-hami.md.
"""
