"""What there is: every GPU of a snapshot sorted by what a planner may do with it."""
