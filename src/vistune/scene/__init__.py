"""An image in words: its context, the facts that its boxes support, the objects that a text mentions, English."""
