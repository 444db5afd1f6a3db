"""Chatting with a trained assistant."""
