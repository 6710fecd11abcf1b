"""poolmgr decides, per GPU, between whole-card VMs and shared containers, and moves GPUs safely.

Start with `poolmgr.domain` (the words), then `poolmgr.controller.loop` (observe, plan, verify, act).
"""
