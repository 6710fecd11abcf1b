"""REST API and dashboard. Reads what the controller knows and the ledger kept; decides nothing itself.

Start at `app`; what it needs from outside is in `ports`.
"""
