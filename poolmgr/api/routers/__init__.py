"""The REST operations, one module per resource."""
