"""Codecs for talking heads, every system of the tables behind one decoder."""
