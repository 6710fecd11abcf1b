"""What a plan does with the GPUs there are: one stage after the other, each answering with its result."""
