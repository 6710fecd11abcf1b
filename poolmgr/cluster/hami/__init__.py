"""HAMi: its state on a node, its version found, and the levers by which it lets go of a GPU.

The formats are `poolmgr.wire.hami`; they and the order of the recipe are described in docs/reference/hami-versions.md and
docs/explanation/taking-a-gpu-from-hami.md.
"""
