"""Plots, curves and the page of a report."""
