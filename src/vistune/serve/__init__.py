"""Talking with a trained assistant."""
