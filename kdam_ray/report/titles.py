"""How tasks and their metrics are headed in tables and plots, and with how many digits they are shown."""

TITLES = {
    "semseg": "SemSeg",
    "human_parts": "PartSeg",
    "sal": "Sal",
    "depth": "Depth",
    "normals": "Normal",
    "edge": "Bound",
}
DIGITS = {"%": 2, "m": 4, "deg": 2}  # as the paper prints
ARROWS = {True: "↑", False: "↓"}
