"""Signing in through an identity provider: what it is asked, how its answer is checked, which role follows from it."""
