"""Models with random weights, for tests and benchmarks of everything around a trained one."""
