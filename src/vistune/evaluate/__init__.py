"""Evaluation: a model's answers about held-out images, judged, with scores and a report."""
