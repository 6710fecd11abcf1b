"""What stands in the way of poolmgr in a cluster, and how to clear it. Pure: objects in, findings out."""
