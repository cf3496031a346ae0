"""Conventional codecs, still and moving, behind one codec interface."""
