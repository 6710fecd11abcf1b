"""The node side: finds GPUs, reports them, rebinds them safely, and gives passthrough ones to the kubelet.

Read `reconcile` (what is decided), `rebind` (how it is done), `run` (the loop). It must never write to
`unbind` of a device that has a holder, and never be taken down by a kernel write that hangs.
"""
