"""Benchmarks: each prints figures as ratios to a floor measured in the same run. Never run by the test suite."""
