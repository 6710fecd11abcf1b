"""A GPU's move on a real kernel, by the agent's code and by a bare shell loop: `poolmgr bench move`.

`agent_moves` and `shell_moves.sh` run inside the emulated node and print a line for each move; `run` boots the node and lets them
take turns; `report` makes the table.
"""
