"""The last stage before use: a model's answers on held-out images, judged, with the report."""
