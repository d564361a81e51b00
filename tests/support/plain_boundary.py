"""odsF's steps from libraries, slowly: tests and benchmarks/boundary.py compare the compiled ones with them."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import correlate1d, gaussian_filter, map_coordinates
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_flow
from scipy.spatial import cKDTree
from skimage.morphology import thin

TRIANGLE = np.array([1, 2, 3, 4, 5, 4, 3, 2, 1]) / 25


def mixed_derivatives(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Oxx, Oxy, Oyy of the smoothed map, float64."""
    smooth = correlate1d(correlate1d(grey / 255, TRIANGLE, axis=0, mode="reflect"), TRIANGLE, axis=1, mode="reflect")
    down, right = np.gradient(smooth)
    down_down, down_right = np.gradient(down)
    return np.gradient(right)[1], down_right, down_down


def suppressed(grey: np.ndarray) -> np.ndarray:
    """Non-maximum suppression and the fading border, float64; for maps of at least 10 x 10."""
    strength = grey / 255
    xx, xy, yy = mixed_derivatives(grey)
    angle = np.mod(np.arctan(yy * np.sign(-xy) / (xx + 1e-5)), np.pi)
    height, width = grey.shape
    y, x = np.mgrid[:height, :width]
    kept = np.ones(grey.shape, bool)
    for side in (-1, 1):
        at_y = np.clip(y + side * np.sin(angle), 0, height - 1.001)
        at_x = np.clip(x + side * np.cos(angle), 0, width - 1.001)
        kept &= 1.01 * strength >= map_coordinates(strength, [at_y, at_x], order=1)
    fade_y, fade_x = (np.minimum(1, np.minimum(np.arange(n), np.arange(n)[::-1]) / 5) for n in grey.shape)
    return strength * kept * fade_y[:, None] * fade_x


def neighbours(true: np.ndarray, predicted: np.ndarray, radius: float) -> csr_matrix:
    """0/1 matrix [true pixels, predicted pixels] of the pairs within the radius."""
    rows, columns = np.argwhere(true), np.argwhere(predicted)
    if not len(rows) or not len(columns):
        return csr_matrix((len(rows), len(columns)), dtype=np.int32)
    near = cKDTree(columns).query_ball_point(rows, radius)
    indptr = np.cumsum([0, *map(len, near)])
    return csr_matrix(
        (np.ones(indptr[-1], np.int32), np.concatenate([*near, []]).astype(np.int32), indptr), (len(rows), len(columns))
    )


def largest_matching(true: np.ndarray, predicted: np.ndarray, radius: float) -> int:
    """Number of pairs, by maximum flow: source -> true -> predicted -> sink, all capacities one."""
    pairs = neighbours(true, predicted, radius).tocoo()
    n, m = pairs.shape
    if not n or not m:
        return 0
    source, sink = n + m, n + m + 1
    heads = np.concatenate([np.full(n, source), pairs.row, n + np.arange(m)])
    tails = np.concatenate([np.arange(n), n + pairs.col, np.full(m, sink)])
    graph = csr_matrix((np.ones(len(heads), np.int32), (heads, tails)), (n + m + 2, n + m + 2))
    return maximum_flow(graph, source, sink).flow_value


def counts_from(
    strength: np.ndarray, true: np.ndarray, radius: float, thresholds: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """(pairs, predicted), int64 [T], of a map that has been suppressed."""
    maps = [thin(strength > np.float32(threshold)) for threshold in thresholds]
    return np.array([largest_matching(true, one, radius) for one in maps]), np.array([one.sum() for one in maps])


def blobs(seed: int, height: int, width: int, scale: float) -> np.ndarray:
    """A random smooth binary map."""
    return gaussian_filter(np.random.default_rng(seed).standard_normal((height, width)), scale) > 0


def scene(seed: int, height: int, width: int, *, scale: float = 10) -> tuple[np.ndarray, np.ndarray]:
    """(probability float32, edges bool): contours of random regions, and a guess with doubts, gaps and clutter."""
    rng = np.random.default_rng(seed)

    def field(sigma: float) -> np.ndarray:
        values = gaussian_filter(rng.standard_normal((height, width)), sigma)
        return values / values.std()

    label = np.digitize(field(scale), (-0.8, 0, 0.8)) + 4 * (field(scale) > 0)
    edges = np.zeros((height, width), bool)
    edges[:, :-1] |= label[:, :-1] != label[:, 1:]
    edges[:-1] |= label[:-1] != label[1:]
    lines = gaussian_filter(edges.astype(float), 1.5) * 3
    clutter = np.exp(-((field(scale / 2) / 0.2) ** 2)) * (field(scale) > 0.5) * 0.5
    confidence = np.clip(0.6 + 0.4 * field(2 * scale), 0.05, 1)
    noise = 0.02 * rng.standard_normal((height, width))
    return np.clip(np.maximum(lines * confidence, clutter) + noise, 0, 1).astype(np.float32), thin(edges)
