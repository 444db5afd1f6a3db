"""Checkpoints for other engines: GGUF for llama.cpp, Ollama, one merged folder, the hub; and who can load what."""
