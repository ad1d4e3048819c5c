"""Fake but true: a tiny really-trained model and an Amber-sized synthetic run."""
