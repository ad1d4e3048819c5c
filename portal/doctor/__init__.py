"""What is wrong with an installation, and what to do about it: every check is short, changes nothing, and ends."""
