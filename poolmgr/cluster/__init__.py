"""The only package that talks to Kubernetes: watches in, compare-and-swap writes out. No decisions.

Read `view` (what the controller sees), then `observe` (how objects become one snapshot), then `actuate` and
`hami.actuate` (what it may change). `client` and `reflector` are the plumbing, `lease` says who leads.
"""
