"""A real Kubernetes control plane on loopback, with HAMi's scheduler and KubeVirt's controller when asked
for."""
