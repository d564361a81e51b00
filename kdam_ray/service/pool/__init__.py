"""Cohorts at work: Ray, the lanes that train them, and who hands out what; the only room that imports Ray."""
