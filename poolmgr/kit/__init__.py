"""Small shared edges: clock, logging, metrics, retry. No decisions."""
