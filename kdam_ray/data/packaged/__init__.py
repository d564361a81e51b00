"""Data sets on disk, as their authors and the code bases of the field have packed them."""
