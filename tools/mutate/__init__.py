"""Mutation testing: change one thing in a module and see that a test fails (`make mutate`).

`operators` makes the mutants of a module, `runner` runs each one's tests inside one pytest process, `targets` says
which tests belong to which module, and docs/explanation/mutants.md explains those that survive.
"""
