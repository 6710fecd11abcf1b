"""A node in one file: what the agent was answered there, so that anybody can judge it elsewhere by the same code.

`format` is the file, `take` makes one on a node, `replay` stands behind the agent's parts where one is read.
"""
