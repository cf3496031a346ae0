"""The networks of the animation codecs, in two sizes: `paper` (the published widths) and `lite` (two CPU cores)."""
