"""From wire objects to domain values. Pure: no IO, no clock; `now` is passed in.

One module per concern; `assembly` keeps the decoded values and puts a snapshot together from what changed.
"""
