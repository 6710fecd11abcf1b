"""A stand-in for HAMi: programs of our own that speak its protocol. It is not HAMi, and no run on it is one on HAMi.

Written from `facts/hami-control-plane.md` and from what HAMi's documentation and programs do; it shares no code with
HAMi and none with poolmgr, so that it is a second reader of the protocol. Three programs take the flags, files and
environment of the real ones: `scheduler`, `device_plugin`, `monitor`. `release.py` says how the two releases differ.
Only the standard library, PyYAML, gRPC and pynvml are imported: the programs also run on the slow emulated node.

What it leaves out, and refuses or ignores: dynamic MIG on the node, CDI, IMEX, topology scores, other vendors'
devices beyond their names, certificates that change while it runs. `e2e/hami/statements.py` lists what is held against
the real one.
"""
