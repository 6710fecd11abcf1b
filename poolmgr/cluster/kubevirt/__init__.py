"""KubeVirt: who asks for whole GPUs."""
