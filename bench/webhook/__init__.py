"""Admission webhooks side by side: `poolmgr bench webhook`.

`bodies` are the reviews that are sent; `arms` the webhooks, each the real program on a real API server; `load` drives one
of them and counts; `run` goes through all of them in turns; `report` makes the table.
"""
