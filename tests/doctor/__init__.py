"""Tests of broken installations."""
