"""What is known of an image in words: its context, the facts its boxes bear out, the names and wording of both."""
