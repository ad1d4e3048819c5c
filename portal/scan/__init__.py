"""Is it what it claims: checks over a catalogued run that end in findings."""
