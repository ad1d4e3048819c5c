"""The portal's API from Python: what the commands use and what a user imports."""
