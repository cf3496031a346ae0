"""Training of the animation codecs: pre-encoded clips, losses, one script."""
