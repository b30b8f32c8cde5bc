"""The search for the scale of a block: what llama.cpp's quantizers minimize, and how.

A block keeps whole numbers, its codes q, and gives back scale * q, or scale * q - minimum. The error that counts is
sum(w * (x - what comes back)**2) with a weight w for each x. Given the codes, the best scale is a problem of least
squares, with a formula for its answer; given the scale, the best codes are the nearest ones. Both at once have no
formula. So the codes are rounded with a number of scales near the one that spreads them over all levels, each set of
codes gets its own best scale, and the set with the smallest error wins.

All functions take blocks as rows, x float32 (blocks, n) with their weights of the same shape, and return codes, uint8
of that shape, and a scale for each block. `LANES` blocks are searched side by side: one instruction serves all of them,
while the sums of each are taken from its first number to its last, as in llama.cpp's loops: equal bytes demand it.
"""

import numpy as np

from llmnotes.quantization.fast.compiled import ONE, ZERO, code, compiled, nearest

LANES = 64  # blocks side by side, as many as the widest registers have places for
SMALLEST = np.float32(1e-15)  # blocks whose numbers are all smaller are zeros
TENTH = np.float32(0.1)


@compiled
def symmetric(x: np.ndarray, weights: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (codes, scales) of blocks without a minimum: codes from 0 to 2 * levels - 1, of which q is code - levels.

    The number of the largest magnitude becomes about -levels, the end that reaches further: 19 places for it are tried,
    from levels - 0.9 to levels + 0.9. For given q the best scale is sum(w x q) / sum(w q q), and what it takes off the
    error is sum(w x q)**2 / sum(w q q): the most wins. (`make_qx_quants` in llama.cpp's ggml-quants.c.)
    """
    n, low, high = x.shape[1], np.int32(-levels), np.int32(levels - 1)
    codes, scales = np.empty(x.shape, np.uint8), np.empty(len(x), np.float32)
    column, weight = np.empty((n, LANES), np.float32), np.empty((n, LANES), np.float32)
    rows = np.empty((7, LANES), np.float32)
    top, inverse, best, scale, gain, sum_xq, sum_qq = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6]
    for start in range(0, len(x), LANES):
        _side_by_side(x, start, column)
        _side_by_side(weights, start, weight)
        for k in range(LANES):
            top[k] = gain[k] = ZERO
        for i in range(n):
            for k in range(LANES):
                if abs(column[i, k]) > abs(top[k]):
                    top[k] = column[i, k]
        for t in range(19):
            place = 0 if t == 0 else t - 10 if t < 10 else t - 9  # the middle first, then -9 to -1 and 1 to 9
            for k in range(LANES):
                inverse[k] = -(np.float32(levels) + TENTH * np.float32(place)) / top[k]
                sum_xq[k] = sum_qq[k] = ZERO
            for i in range(n):
                for k in range(LANES):
                    q = np.float32(code(inverse[k] * column[i, k], low, high))
                    sum_xq[k] += weight[i, k] * column[i, k] * q
                    sum_qq[k] += weight[i, k] * q * q
            for k in range(LANES):
                if t == 0 or (sum_qq[k] > ZERO and sum_xq[k] * sum_xq[k] > gain[k] * sum_qq[k]):
                    best[k] = inverse[k]
                    scale[k] = sum_xq[k] / sum_qq[k] if sum_qq[k] != ZERO else ZERO
                    gain[k] = scale[k] * sum_xq[k]
        for k in range(min(LANES, len(x) - start)):
            empty = abs(top[k]) < SMALLEST
            scales[start + k] = ZERO if empty else scale[k]
            for i in range(n):
                codes[start + k, i] = 0 if empty else np.uint8(code(best[k] * column[i, k], low, high) - low)
    return codes, scales


@compiled
def affine(
    x: np.ndarray, weights: np.ndarray, levels: int, first: np.float32, step: np.float32, tries: int, absolute: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (codes, scales, minima) of blocks that give back scale * q - minimum, with codes q from 0 to `levels`.

    At first the codes are spread from the smallest number of a block, or 0 if none is negative, to the largest. Then
    `tries` times the spread is stretched, to levels + first, levels + first + step and so on, the codes are rounded,
    and scale and minimum are solved for: two equations with two unknowns. A minimum of the wrong sign becomes 0. What
    lowers the error stays, and its minimum is where the next spread begins. With `absolute` the error is
    sum(w * |miss|). (`make_qkx2_quants` and `make_qkx3_quants` in llama.cpp's ggml-quants.c.)
    """
    n, reach, most = x.shape[1], np.float32(levels), np.int32(levels)
    codes, scales, minima = np.empty(x.shape, np.uint8), np.empty(len(x), np.float32), np.empty(len(x), np.float32)
    column, weight = np.empty((n, LANES), np.float32), np.empty((n, LANES), np.float32)
    trial, kept = np.zeros((n, LANES), np.float32), np.zeros((n, LANES), np.float32)
    rows = np.empty((14, LANES), np.float32)
    low, high, inverse, sum_w, sum_x, sum_q, sum_qq = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6]
    sum_xq, error, scale, minimum, best, final, better = (
        rows[7],
        rows[8],
        rows[9],
        rows[10],
        rows[11],
        rows[12],
        rows[13],
    )
    for start in range(0, len(x), LANES):
        _side_by_side(x, start, column)
        _side_by_side(weights, start, weight)
        for k in range(LANES):
            low[k] = high[k] = column[0, k]
            sum_w[k] = sum_x[k] = ZERO
        for i in range(n):
            for k in range(LANES):
                if column[i, k] < low[k]:
                    low[k] = column[i, k]
                if column[i, k] > high[k]:
                    high[k] = column[i, k]
                sum_w[k] += weight[i, k]
                sum_x[k] += weight[i, k] * column[i, k]
        for k in range(LANES):
            if low[k] > ZERO:
                low[k] = ZERO
        for t in range(tries + 1):
            stretched = reach if t == 0 else first + step * np.float32(t - 1) + reach
            for k in range(LANES):
                inverse[k] = stretched / (high[k] - low[k])
                sum_q[k] = sum_qq[k] = sum_xq[k] = error[k] = ZERO
            for i in range(n):
                for k in range(LANES):
                    q = np.float32(code(inverse[k] * (column[i, k] - low[k]), np.int32(0), most))
                    trial[i, k] = q
                    sum_q[k] += weight[i, k] * q
                    sum_qq[k] += weight[i, k] * q * q
                    sum_xq[k] += weight[i, k] * q * column[i, k]
            for k in range(LANES):
                solvable = sum_w[k] * sum_qq[k] - sum_q[k] * sum_q[k]
                scale[k] = (sum_w[k] * sum_xq[k] - sum_x[k] * sum_q[k]) / solvable
                minimum[k] = (sum_qq[k] * sum_x[k] - sum_q[k] * sum_xq[k]) / solvable
                if minimum[k] > ZERO:
                    minimum[k], scale[k] = ZERO, sum_xq[k] / sum_qq[k]
                if t == 0:
                    minimum[k], scale[k] = low[k], ONE / inverse[k]
                better[k] = ONE if t == 0 or solvable > ZERO else ZERO
            for i in range(n):
                for k in range(LANES):
                    miss = abs(scale[k] * trial[i, k] + minimum[k] - column[i, k])
                    error[k] += weight[i, k] * (miss * (ONE if absolute else miss))
            for k in range(LANES):
                if better[k] == ONE and (t == 0 or error[k] < best[k]):
                    best[k], final[k], low[k] = error[k], scale[k], minimum[k]
                else:
                    better[k] = ZERO
            for i in range(n):
                for k in range(LANES):
                    kept[i, k] += better[k] * (trial[i, k] - kept[i, k])
        for k in range(min(LANES, len(x) - start)):
            scales[start + k], minima[start + k] = final[k], -low[k]
            for i in range(n):
                codes[start + k, i] = np.uint8(kept[i, k])
    return codes, scales, minima


@compiled
def descent(x: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (codes, scales) of blocks without a minimum, found by moving one code at a time; codes as in `symmetric`.

    Weights are x**2. From the rounded codes, up to five passes: with all others fixed, a code goes where the scale that
    fits the others puts it, if that lowers the error. (`make_q3_quants` in llama.cpp's ggml-quants.c.)
    """
    n, low, high = x.shape[1], np.int32(-levels), np.int32(levels - 1)
    codes, scales = np.zeros(x.shape, np.uint8), np.zeros(len(x), np.float32)
    q = np.empty(n, np.float32)
    for b in range(len(x)):
        block = x[b]
        top = largest(block)
        if abs(top) < SMALLEST:
            continue
        inverse = -np.float32(levels) / top
        sum_xq = sum_qq = ZERO
        for i in range(n):
            q[i] = np.float32(code(inverse * block[i], low, high))
            w = block[i] * block[i]
            sum_xq += w * block[i] * q[i]
            sum_qq += w * q[i] * q[i]
        for _ in range(5):
            moved = False
            for i in range(n):
                w = block[i] * block[i]
                xq, qq = sum_xq - w * block[i] * q[i], sum_qq - w * q[i] * q[i]
                if xq > ZERO:
                    new = np.float32(code(block[i] * qq / xq, low, high))
                    xq, qq = xq + w * block[i] * new, qq + w * new * new
                    if new != q[i] and qq > ZERO and xq * xq * sum_qq > sum_xq * sum_xq * qq:
                        q[i], sum_xq, sum_qq, moved = new, xq, qq, True
            if not moved:
                break
        scales[b] = sum_xq / sum_qq if sum_qq > ZERO else ZERO
        for i in range(n):
            codes[b, i] = np.uint8(np.int32(q[i]) - low)
    return codes, scales


@compiled
def positive(x: np.ndarray, weights: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (codes, scales) of rows of numbers that are not negative, such as the scales of a block's parts.

    Codes are from 0 to `levels`. Nine places near `levels` are tried for the largest number, and from the best one
    codes are moved one at a time as in `descent`. A number that is negative all the same, which happens where a least
    squares problem has nearly no answer, gets a code modulo 256. (`make_qp_quants` in llama.cpp's ggml-quants.c.)
    """
    n, most = x.shape[1], np.int32(levels)
    codes, scales = np.zeros(x.shape, np.uint8), np.zeros(len(x), np.float32)
    for b in range(len(x)):
        row, weight, q = x[b], weights[b], codes[b]
        top = ZERO
        for value in row:
            if value > top:
                top = value
        if top < SMALLEST:
            continue
        inverse = best = ZERO
        for t in range(9):
            place = 0 if t == 0 else t - 5 if t < 5 else t - 4  # the middle first, then -4 to -1 and 1 to 4
            trial, error = (TENTH * np.float32(place) + np.float32(levels)) / top, ZERO
            for i in range(n):
                nearby = nearest(trial * row[i])
                miss = row[i] - ONE / trial * np.float32(np.uint8(nearby) if t == 0 else min(nearby, most))
                error += weight[i] * miss * miss
            if t == 0 or error < best:
                best, inverse = error, trial
        sum_xq = sum_qq = ZERO
        for i in range(n):
            nearby = min(nearest(inverse * row[i]), most)
            q[i] = np.uint8(nearby)
            sum_xq += weight[i] * row[i] * np.float32(nearby)
            sum_qq += weight[i] * np.float32(nearby) * np.float32(nearby)
        for _ in range(5):
            moved = False
            for i in range(n):
                old = np.float32(q[i])
                xq, qq = sum_xq - weight[i] * row[i] * old, sum_qq - weight[i] * old * old
                if xq > ZERO and qq > ZERO:
                    new = np.float32(min(nearest(row[i] * qq / xq), most))
                    xq, qq = xq + weight[i] * row[i] * new, qq + weight[i] * new * new
                    if new != old and xq * xq * sum_qq > sum_xq * sum_xq * qq:
                        q[i], sum_xq, sum_qq, moved = np.uint8(np.int32(new)), xq, qq, True
            if not moved:
                break
        scales[b] = sum_xq / sum_qq if sum_qq > ZERO else ZERO
    return codes, scales


@compiled
def largest(x: np.ndarray) -> np.float32:
    """Return the number of the largest magnitude, the first of several and never NaN; 0 if all are."""
    low = high = x[0]
    for value in x:
        low, high = min(low, value), max(high, value)
    if high > -low:
        return high
    if high < -low:
        return low
    found = ZERO  # as large on both sides, or NaN among them: one after the other, which takes longer
    for value in x:
        if abs(value) > abs(found):
            found = value
    return found


@compiled
def weighed(x: np.ndarray, importance: np.ndarray, blocks: int, factor: int) -> np.ndarray:
    """Return the weights of the errors of x (blocks, n): importance * sqrt(factor * mean + x**2).

    `importance` (blocks of a row, n) says how much the columns matter, and the mean is that of x**2 over every `blocks`
    blocks: what is above the average matters more.
    """
    weights = np.empty(x.shape, np.float32)
    for start in range(0, len(x), blocks):
        total = ZERO
        for b in range(start, start + blocks):
            for value in x[b]:
                total += value * value
        square = np.float32(factor) * total / np.float32(blocks * x.shape[1])
        for b in range(start, start + blocks):
            column = importance[b % len(importance)]
            for i in range(x.shape[1]):
                weights[b, i] = column[i] * np.sqrt(square + x[b, i] * x[b, i])
    return weights


@compiled
def _side_by_side(x, start, columns):
    """Write the blocks from `start` on as columns; where there are too few, the last one again."""
    for k in range(LANES):
        block = x[min(start + k, len(x) - 1)]
        for i in range(x.shape[1]):
            columns[i, k] = block[i]
