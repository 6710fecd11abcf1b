"""libhook beside other libraries of its kind: the same programs on the same fake driver in one run.

Start reading at `rows.py` (what is measured), then `containers.py` (how a program is started), `report.py`.
"""
