"""What moves cost the pods of a node while agents die, lie still and come back, and GPUs cannot be rebound."""
