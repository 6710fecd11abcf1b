"""Nodes of which not everything can be known: who truly uses each GPU, which witnesses say so, and which cannot be asked.

`world` draws them, `on_node` and `in_cluster` lay them out at the outermost edge (files, NVML's library, the kubelet's
answer, the API server), and `play` lets the real agent and manager loose on them.
"""
