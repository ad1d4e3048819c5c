"""What a job is made of and what its outputs are worth: specs, row plans, checks, verdicts, derived runs."""
