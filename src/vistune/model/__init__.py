"""The assistant: a vision tower and a language model joined by a projector, saved, loaded and used to answer."""
