"""The image that `make image` builds: what is in it, and that it runs."""
