"""What NVIDIA's GPU operator, and others who speak by its labels, let be done on one node."""
