"""Tests of how runs come in."""
