"""One row format per module; `open_reader` chooses."""
