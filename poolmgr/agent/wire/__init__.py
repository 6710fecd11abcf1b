"""Generated messages of the kubelet's device-plugin and pod-resources APIs. See README.md here."""
