"""Thinning and one-to-one matching of contours at many thresholds, compiled.

Importing this module compiles it, or loads what an earlier process compiled. The two halves stay in one file because
numba's cache notices changes only in the file of the function that is called.

Maps are flat where a pixel's neighbours are looked up: H+2 rows of W+2 cells, a border of empty cells around the image,
so that no neighbour needs a bounds check. `cells` are positions in such a map. Directions are numbered counterclockwise
from east: 0 E, 1 NE, 2 N, 3 NW, 4 W, 5 SW, 6 S, 7 SE.
"""

import math

import numpy as np

from kdam_ray.metrics.compiled import compiled

EAST_TO_SOUTH_EAST = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))  # (dy, dx)


# ---------------------------------------------------------------------------------------------------------------
# thinning


def deletable() -> np.ndarray:
    """uint8 [256] by neighbour code (bit d = direction d is on): bit 0, 1: deleted in the first, second half-iteration.

    Conditions G1, G2, G3 and G3' of the parallel thinning by Guo and Hall (1989), as Lam, Lee and Suen (1992) give
    them.
    """
    table = np.zeros(256, np.uint8)
    for code in range(256):
        x = [bool(code >> d & 1) for d in range(8)] * 2  # doubled: x[8] is x[0] again
        crossings = sum(not x[d] and (x[d + 1] or x[d + 2]) for d in (0, 2, 4, 6))
        pairs = min(sum(x[d] or x[d + 1] for d in (0, 2, 4, 6)), sum(x[d + 1] or x[d + 2] for d in (0, 2, 4, 6)))
        if crossings == 1 and 2 <= pairs <= 3:
            first = not ((x[1] or x[2] or not x[7]) and x[0])
            second = not ((x[5] or x[6] or not x[3]) and x[4])
            table[code] = first + 2 * second
    return table


DELETABLE = deletable()
STEP_Y, STEP_X = np.array(EAST_TO_SOUTH_EAST, np.int32).T.copy()


@compiled("void(uint8[::1], uint8[::1], int32[::1], int32[::1], int32[::1], int32, int32)")
def thin(
    on: np.ndarray,
    code: np.ndarray,
    cells: np.ndarray,
    waiting: np.ndarray,
    doomed: np.ndarray,
    count: int,
    stride: int,
) -> None:
    """Thins until nothing changes, testing only pixels whose neighbourhood has changed since their last test.

    Args:
        on: uint8 flat map; becomes the thinned map at `cells`.
        code: uint8 flat map, neighbour code of every pixel that is on.
        cells: the pixels that are on, first `count`; is left as it is.
        waiting: int32, room for `count` cells.
        doomed: int32, room for `count` cells.
        count: how many pixels are on.
        stride: cells per row of the flat maps.
    """
    # on[cell] is 1 | 2 | 4 while the pixel still has to be tested for the first (2), second (4) half-iteration
    for i in range(count):
        waiting[i] = cells[i]
        on[cells[i]] = 7
    left, half = count, 0
    while left:
        bit = 1 << half
        deleted, kept = 0, 0
        for i in range(left):
            cell = waiting[i]
            state = on[cell]
            if state & (bit << 1):
                if DELETABLE[code[cell]] & bit:
                    doomed[deleted] = cell
                    deleted += 1
                    continue
                state &= ~np.uint8(bit << 1)
                on[cell] = state
            if state & 6:
                waiting[kept] = cell
                kept += 1
        for i in range(deleted):
            on[doomed[i]] = 0
        for i in range(deleted):
            for d in range(8):
                cell = doomed[i] + STEP_Y[d] * stride + STEP_X[d]
                code[cell] &= ~np.uint8(1 << ((d + 4) % 8))
                if on[cell]:
                    if on[cell] == 1:
                        waiting[kept] = cell
                        kept += 1
                    on[cell] = 7
        left, half = kept, 1 - half


@compiled("void(uint8[::1], uint8[::1], int32, int32)")
def switch_on(on: np.ndarray, code: np.ndarray, cell: int, stride: int) -> None:
    """Adds a pixel and tells its neighbours' codes."""
    on[cell] = 1
    for d in range(8):
        code[cell + STEP_Y[d] * stride + STEP_X[d]] |= np.uint8(1 << ((d + 4) % 8))


@compiled("boolean[:, ::1](boolean[:, ::1])")
def thinned(mask: np.ndarray) -> np.ndarray:
    """A binary map [H, W] thinned to lines one pixel wide."""
    height, width = mask.shape
    stride = width + 2
    on, code = np.zeros((height + 2) * stride, np.uint8), np.zeros((height + 2) * stride, np.uint8)
    cells = np.empty(height * width, np.int32)
    count = 0
    for y in range(height):
        for x in range(width):
            if mask[y, x]:
                cells[count] = (y + 1) * stride + x + 1
                switch_on(on, code, cells[count], stride)
                count += 1
    thin(on, code, cells, np.empty(count, np.int32), np.empty(count, np.int32), count, stride)
    lines = np.empty((height, width), np.bool_)
    for y in range(height):
        for x in range(width):
            lines[y, x] = on[(y + 1) * stride + x + 1] > 0
    return lines


# ---------------------------------------------------------------------------------------------------------------
# matching


@compiled("Tuple((int32[::1], int32[::1], int32[:, ::1]))(float32[:, ::1], float32[::1])")
def strongest_first(strength: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells above the lowest threshold, strongest level first.

    Returns:
        cells int32 [N]; active int32 [T]: how many of them (the first ones) are strictly above each threshold; number
        int32 [H, W]: which one each pixel is, -1 for none.
    """
    height, width = strength.shape
    number = np.empty((height, width), np.int32)  # at first how many thresholds lie below
    of_level = np.zeros(len(thresholds) + 1, np.int32)
    for y in range(height):
        for x in range(width):
            low, high = 0, len(thresholds)
            while low < high and strength[y, x] > thresholds[0]:
                middle = (low + high) // 2
                if strength[y, x] > thresholds[middle]:
                    low = middle + 1
                else:
                    high = middle
            number[y, x] = low
            of_level[low] += 1
    active, fill = np.empty(len(thresholds), np.int32), np.empty(len(thresholds), np.int32)
    total = 0
    for j in range(len(thresholds) - 1, -1, -1):
        total += of_level[j + 1]
        active[j] = fill[j] = total
    cells = np.empty(total, np.int32)
    for y in range(height - 1, -1, -1):
        for x in range(width - 1, -1, -1):
            j = number[y, x] - 1
            number[y, x] = -1
            if j >= 0:
                fill[j] -= 1
                number[y, x] = fill[j]
                cells[fill[j]] = (y + 1) * (width + 2) + x + 1
    return cells, active, number


@compiled("void(int32[:, ::1], int32[::1], float64, int32[::1], int32[::1], int32[::1], boolean)")
def walk_pairs(
    number: np.ndarray,
    true_cells: np.ndarray,
    radius: float,
    start: np.ndarray,
    by_predicted: np.ndarray,
    true: np.ndarray,
    is_filling: bool,
) -> None:
    """Counts the pairs into `start` and `by_predicted`; once those are sums, lists them in `true` by predicted one."""
    height, width = number.shape
    reach = int(radius)
    for g in range(len(true_cells)):
        y, x = true_cells[g] // width, true_cells[g] % width
        for row in range(max(y - reach, 0), min(y + reach, height - 1) + 1):
            half = int(math.sqrt(radius * radius - (row - y) ** 2))
            for column in range(max(x - half, 0), min(x + half, width - 1) + 1):
                p = number[row, column]
                if p < 0:
                    continue
                if is_filling:
                    by_predicted[p] -= 1
                    true[by_predicted[p]] = g
                else:
                    by_predicted[p] += 1
                    start[g + 1] += 1


@compiled("Tuple((int32[::1], int32[::1]))(int32[::1], int32[::1], int32[:, ::1], float64)")
def pairs_within(
    cells: np.ndarray, true_cells: np.ndarray, number: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """The predicted pixels within `radius` of each true one, strongest first, as compressed rows.

    Args:
        cells: int32 [N], predicted pixels, strongest first.
        true_cells: int32 [G], true pixels, positions in [H, W].
        number: int32 [H, W], number of each predicted pixel, -1 elsewhere.
        radius: pixels.

    Returns:
        start int32 [G + 1]; near int32 [start[G]]: numbers of predicted pixels, ascending in each row. 4 bytes a pair,
        at most pi radius^2 pairs a true pixel.
    """
    start, by_predicted = np.zeros(len(true_cells) + 1, np.int32), np.zeros(len(cells) + 1, np.int32)
    walk_pairs(number, true_cells, radius, start, by_predicted, start, False)
    start[:] = np.cumsum(start)
    by_predicted[:] = np.cumsum(by_predicted)
    true, near = np.empty(start[-1], np.int32), np.empty(start[-1], np.int32)
    walk_pairs(number, true_cells, radius, start, by_predicted, true, True)
    # read by predicted pixel, strongest first, each row comes out sorted; rows fill from `start`, which moves and is
    # put back
    for i in range(len(cells)):
        for k in range(by_predicted[i], by_predicted[i + 1]):
            near[start[true[k]]] = i
            start[true[k]] += 1
    for g in range(len(true_cells), 0, -1):
        start[g] = start[g - 1]
    start[0] = 0
    return start, near


@compiled(
    "int32(int32, int32[::1], int32[::1], int32[::1], int32[::1], boolean[::1],"
    " int32[:, ::1], int32[:, ::1], int32[::1], int32)"
)
def augment(
    root: int, start: np.ndarray, end: np.ndarray, near: np.ndarray, look: np.ndarray,
    alive: np.ndarray, mates: np.ndarray, path: np.ndarray, visited: np.ndarray, phase: int,
) -> int:  # fmt: skip
    """One depth-first search with look-ahead for an augmenting path from a true pixel without a mate.

    Args:
        root: the true pixel.
        start: int32 [G + 1], first of each true pixel's neighbours in `near`.
        end: int32 [G + 1], end of those that are above the threshold.
        near: int32, numbers of predicted pixels.
        look: int32 [G], up to where each row was searched for a free pixel: none becomes free while paths are added.
        alive: bool [N], which predicted pixels are left after thinning.
        mates: int32 [2, max(G, N)]: [0] of true, [1] of predicted pixels, -1 for none.
        path: int32 [2, G]: [0] the true pixels on the way, [1] by true pixel up to where its row was walked.
        visited: int32 [N], the phase that each predicted pixel was last walked in.
        phase: this one.

    Returns:
        1 if a path was found and taken, else 0.
    """
    depth = 0
    path[0, 0], path[1, root] = root, start[root]
    while depth >= 0:
        g = path[0, depth]
        free = -1
        while free < 0 and look[g] < end[g]:
            p = near[look[g]]
            look[g] += 1
            if alive[p] and mates[1, p] < 0:
                free = p
        if free >= 0:
            for i in range(depth, -1, -1):
                g = path[0, i]
                given_up = mates[0, g]
                mates[0, g], mates[1, free] = free, g
                free = given_up
            return 1
        step = path[1, g]
        while step < end[g] and (not alive[near[step]] or visited[near[step]] == phase):
            step += 1
        if step == end[g]:
            depth -= 1
            continue
        path[1, g] = step + 1
        visited[near[step]] = phase
        depth += 1
        path[0, depth] = mates[1, near[step]]
        path[1, path[0, depth]] = start[path[0, depth]]
    return 0


@compiled("int32(int32[::1], int32[::1], int32[::1], boolean[::1], int32[:, ::1], int32[:, ::1], int32[::1], int32)")
def complete(
    start: np.ndarray,
    end: np.ndarray,
    near: np.ndarray,
    alive: np.ndarray,
    mates: np.ndarray,
    path: np.ndarray,
    visited: np.ndarray,
    phase: int,
) -> int:
    """Grows a matching to one of maximum cardinality by Pothen-Fan phases; arguments as in `augment`.

    In one phase every predicted pixel is walked at most once, so a search can fail because of an earlier one's detour:
    only a phase that finds nothing proves that nothing is left. `phase` is the last phase number used so far.

    Returns:
        The number of the last phase; the pairs are in `mates`.
    """
    count = len(start) - 1
    look, single = start[:-1].copy(), np.empty(count, np.int32)
    left = 0
    for g in range(count):
        if mates[0, g] < 0 and end[g] > start[g]:
            single[left] = g
            left += 1
    found = left
    while found and left:
        phase += 1
        found, kept = 0, 0
        for i in range(left):
            if augment(single[i], start, end, near, look, alive, mates, path, visited, phase):
                found += 1
            else:
                single[kept] = single[i]
                kept += 1
        left = kept
    return phase


@compiled("Tuple((int64[::1], int64[::1]))(float32[:, ::1], int32[::1], float64, float32[::1])")
def pairs_per_threshold(
    strength: np.ndarray, true_cells: np.ndarray, radius: float, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Thins the map above each threshold and matches what is left one-to-one with the true pixels.

    From the highest threshold down, so that each map is a prefix of the sorted pixels and the last matching is a start:
    pairs whose predicted pixel has been thinned away are undone, the rest is completed.

    Args:
        strength: float32 [H, W], of pixels on ridges.
        true_cells: int32 [G], true pixels, positions in [H, W].
        radius: largest distance of a pair, pixels.
        thresholds: float32 [T], ascending.

    Returns:
        pairs int64 [T], the largest number possible; predicted int64 [T], pixels after thinning.
    """
    stride, size = strength.shape[1] + 2, (strength.shape[0] + 2) * (strength.shape[1] + 2)
    cells, active, number = strongest_first(strength, thresholds)
    start, near = pairs_within(cells, true_cells, number, radius)
    true, count = len(start) - 1, len(cells)
    raw_on, raw_code = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    on, code, alive = np.zeros(size, np.uint8), np.zeros(size, np.uint8), np.zeros(count, np.bool_)
    waiting, doomed, visited = np.empty(count, np.int32), np.empty(count, np.int32), np.zeros(count, np.int32)
    mates, path, end = np.full((2, max(true, count)), -1, np.int32), np.empty((2, true + 1), np.int32), start.copy()
    pairs, predicted = np.zeros(len(thresholds), np.int64), np.zeros(len(thresholds), np.int64)
    phase, done = 0, 0
    for j in range(len(thresholds) - 1, -1, -1):
        if active[j] == done:
            if j + 1 < len(thresholds):
                pairs[j], predicted[j] = pairs[j + 1], predicted[j + 1]
            continue
        for i in range(done, active[j]):
            switch_on(raw_on, raw_code, cells[i], stride)
        done = active[j]
        for i in range(done):
            code[cells[i]] = raw_code[cells[i]]
        thin(on, code, cells, waiting, doomed, done, stride)
        for i in range(done):
            alive[i] = on[cells[i]] > 0
            predicted[j] += alive[i]
            if not alive[i] and mates[1, i] >= 0:
                mates[0, mates[1, i]] = -1
                mates[1, i] = -1
        for g in range(true):
            while end[g] < start[g + 1] and near[end[g]] < done:
                end[g] += 1
        phase = complete(start, end, near, alive, mates, path, visited, phase)
        for g in range(true):
            pairs[j] += mates[0, g] >= 0
    return pairs, predicted
