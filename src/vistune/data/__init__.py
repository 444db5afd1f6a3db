"""Conversations as batches: chat templates, token ids with exact target masks, images."""
