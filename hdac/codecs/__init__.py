"""The codecs of the papers, one file a system, and what they share."""
