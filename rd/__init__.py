"""Measuring: metrics, sweep, Bjontegaard deltas, plots, qualitative dumps, report."""
