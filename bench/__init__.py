"""The judges of the product: what it is measured with, and against what. In the checkout only, in no package.

`scenarios` reads demand from traces, `replay` runs weeks of it, `policies` holds the baselines, `quality` scores them;
`packing` checks the replay against published figures; `speed` times the planner, `live` the manager on a real API
server, `move` a GPU's move on a node, `webhook` the admission webhook, `hook` libhook beside other hooks.
"""
