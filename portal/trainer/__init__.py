"""Trains on from a checkpoint, exactly: ``python -m portal.trainer FOLDER/trainer.json``.

The room stands alone: standard library, numpy, torch, transformers and safetensors, nothing of the portal, so that it
runs on any machine that has these. Settings, schedules and rows need no torch.
"""
