"""Procedural indoor scenes with exact labels: the dataset that needs no download."""
