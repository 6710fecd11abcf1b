"""Benchmarks of the running product. They need this checkout (`e2e`) and are in no package."""
