"""Our device plugin: passthrough GPUs as extended resources, in KubeVirt's contract.

`allocation` is the pure part, `service` one resource's socket, `registry` all of them and their
registration with the kubelet.
"""
