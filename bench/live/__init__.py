"""The manager as a process on a real API server with a large fleet: `poolmgr bench live`.

`fleet` and `workloads` say what is there and `fill` creates it; `counterparts` does what agents, kubelets, HAMi and
virt-controller would do, as far as the manager can see it; `changes` keeps pods coming and going; `manager` is the
process that is measured, `calls` asks it, `run` goes through the phases and `report` makes the table.
"""
