"""Knowledge distillation of multi-task dense prediction networks, and sweeps of it.

The version stands here, beside the code that runs, and `pyproject.toml` reads it: a working copy that Ray ships to its
workers has no metadata, or meets that of an older one.
"""

__version__ = "0.1.0"
