"""Search for the nearest points, in cells and along a graph."""

import numpy as np

from ltau_cli.core.kernels import compiled, reordered

TILE = 128  # centers that are compared at a time
LANES = 64  # values that are compared at a time; divides TILE
BLOCK = 16  # sketches of points that are compared at a time
CHUNK = 256  # points that are compared at a time
TOGETHER = 8  # rows that share the reading of points; the bits of a byte
FLAT = 2  # axes of a cell after which most are known to be too far away
TINY = np.float32(1e-36)  # below it squares lose their precision
HUGE = 1e38  # above it squares overflow


@compiled
def _margin(row, hyperplanes, offsets, node):
    """How far a row (d,) lies on the first side of a node of a search tree."""
    side = offsets[node]
    for x in range(row.shape[0]):
        side += hyperplanes[node, x] * row[x]
    return side


@compiled
def find_leaves(rows, leaf, hyperplanes, offsets, children):
    """Walk each row (n, d) float32 down a search tree; ``leaf`` (n,) gets the node it ends at.

    Node i sends a row x to its first child where hyperplanes[i] . x + offsets[i] > 0, else to its
    second; a first child of 0 or less marks a leaf.
    """
    for i in range(rows.shape[0]):
        node = 0
        for _ in range(children.shape[0]):  # a damaged tree must not lead round in circles
            if not 0 < children[node, 0] < children.shape[0]:
                break
            side = _margin(rows[i], hyperplanes, offsets, node)
            node = children[node, 0] if side > 0 else children[node, 1] % children.shape[0]
        leaf[i] = node


@reordered
def multiply_tiles(rows, tiles, half, out):
    """``half - rows @ centers.T``: half the squared distance to each center, less |row|^2 / 2.

    ``rows`` is (n, d) with n and d multiples of 4; ``tiles`` (n_tiles, d, TILE) holds the centers,
    ``half`` (n_tiles * TILE,) half their squares. All float32.
    """
    width = tiles.shape[2]
    for t in range(tiles.shape[0]):
        columns = slice(t * width, (t + 1) * width)
        for i in range(0, rows.shape[0], 4):
            out0, out1 = out[i, columns], out[i + 1, columns]
            out2, out3 = out[i + 2, columns], out[i + 3, columns]
            for j in range(width):
                out0[j] = out1[j] = out2[j] = out3[j] = half[t * width + j]
            for c in range(0, rows.shape[1], 4):
                a0, a1, a2, a3 = rows[i, c], rows[i, c + 1], rows[i, c + 2], rows[i, c + 3]
                b = rows[i + 1]
                b0, b1, b2, b3 = b[c], b[c + 1], b[c + 2], b[c + 3]
                d = rows[i + 2]
                d0, d1, d2, d3 = d[c], d[c + 1], d[c + 2], d[c + 3]
                e = rows[i + 3]
                e0, e1, e2, e3 = e[c], e[c + 1], e[c + 2], e[c + 3]
                x0, x1, x2, x3 = tiles[t, c], tiles[t, c + 1], tiles[t, c + 2], tiles[t, c + 3]
                for j in range(width):
                    y0, y1, y2, y3 = x0[j], x1[j], x2[j], x3[j]
                    out0[j] -= a0 * y0 + a1 * y1 + a2 * y2 + a3 * y3
                    out1[j] -= b0 * y0 + b1 * y1 + b2 * y2 + b3 * y3
                    out2[j] -= d0 * y0 + d1 * y1 + d2 * y2 + d3 * y3
                    out3[j] -= e0 * y0 + e1 * y1 + e2 * y2 + e3 * y3


@compiled
def _smallest(values, low, place):
    """Place of the smallest of ``values``, a multiple of TILE of them; the first of equals.

    ``low`` and ``place``, (LANES,) each, are overwritten: the smallest of every LANES-th value.
    """
    for j in range(LANES):
        low[j], place[j] = values[j], 0
    for block in range(1, values.shape[0] // LANES):
        for j in range(LANES):
            value = values[block * LANES + j]
            smaller = value < low[j]
            low[j] = value if smaller else low[j]
            place[j] = block if smaller else place[j]
    best = 0
    for j in range(1, LANES):
        if low[j] < low[best] or (low[j] == low[best] and place[j] < place[best]):
            best = j
    return place[best] * LANES + best


@compiled
def find_smallest(values, smallest):
    """Column of the smallest value of each row, a multiple of TILE of them; the first of equals."""
    low, place = np.empty(LANES, dtype=np.float32), np.empty(LANES, dtype=np.int32)
    for i in range(values.shape[0]):
        smallest[i] = _smallest(values[i], low, place)


@compiled
def describe_cells(points, first, last, slack, start, center, axes, low, high, rest, radius):
    """Enclose the points of cells ``first..last`` in a ball and in a box with some thickness.

    Cell c holds ``points[start[c]:start[c + 1]]``, (n, d) float32. Its axes (m, d) are orthonormal:
    each starts at the point that is farthest from the span of those before it, then turns towards
    the direction of the largest spread by three power steps. Along them the points lie within
    ``low``..``high``, beside them at most ``rest`` away. Bounds leave ``slack`` x radius.
    """
    m, d = axes.shape[1], axes.shape[2]
    axis = np.zeros((m, d))
    for c in range(first, last):
        n = start[c + 1] - start[c]
        left = np.empty((n, d))
        beside = np.zeros(n)
        largest = 0.0
        for i in range(n):
            for x in range(d):
                left[i, x] = np.float64(points[start[c] + i, x]) - np.float64(center[c, x])
                beside[i] += left[i, x] * left[i, x]
            largest = max(largest, beside[i])
        square = beside.copy()
        for a in range(m):
            axis[a] = 0.0
            if not beside.max() > 1e-12 * largest:
                continue
            axis[a] = left[beside.argmax()]
            axis[a] /= np.sqrt((axis[a] * axis[a]).sum())
            for _ in range(3):
                turned = np.zeros(d)
                for i in range(n):
                    turned += (left[i] * axis[a]).sum() * left[i]
                axis[a] = turned / np.sqrt((turned * turned).sum())
            for b in range(a):
                axis[a] -= (axis[a] * axis[b]).sum() * axis[b]
            axis[a] /= np.sqrt((axis[a] * axis[a]).sum())
            for i in range(n):
                left[i] -= (left[i] * axis[a]).sum() * axis[a]
                beside[i] = (left[i] * left[i]).sum()
        room = slack * np.sqrt(largest)
        thickness = 0.0
        for a in range(m):
            for x in range(d):
                axes[c, a, x] = axis[a, x]
            low[c, a], high[c, a] = np.inf, -np.inf
        for i in range(n):
            outside = square[i]
            for a in range(m):
                along = 0.0
                for x in range(d):
                    along += np.float64(axes[c, a, x]) * (
                        np.float64(points[start[c] + i, x]) - np.float64(center[c, x])
                    )
                low[c, a] = min(low[c, a], along - room)
                high[c, a] = max(high[c, a], along + room)
                outside -= along * along
            thickness = max(thickness, outside)
        rest[c] = np.sqrt(thickness + slack * largest)
        radius[c] = np.sqrt(largest) + room


@compiled
def place_sketch(start, c):
    """Where the sketches of cell c begin, a multiple of BLOCK; each cell ends before the next."""
    return (start[c] + BLOCK * c) // BLOCK * BLOCK


@reordered
def sketch_points(points, start, center, axes, n_flat, slack, flat_rest, sketch):
    """Write down where the points of each cell lie along its axes, and how far beside them.

    In ``sketch`` (n_places * (m + 1),) float32 the values of cell c begin at
    ``place_sketch(start, c) * (m + 1)``, (m + 1, number of its points and as many more as fill the
    lanes): along the first axis, along the second, ..., and the distance from their span.
    ``flat_rest`` bounds how far the points lie beside the first ``n_flat`` axes. See
    :func:`describe_cells`.
    """
    m = axes.shape[1]
    away = np.empty(points.shape[1])
    for c in range(center.shape[0]):
        n = start[c + 1] - start[c]
        wide = n + -n % BLOCK
        first = place_sketch(start, c) * (m + 1)
        part = sketch[first : first + wide * (m + 1)].reshape(m + 1, wide)
        part[:] = 0
        largest = thickness = 0.0
        for j in range(n):
            square = 0.0
            for x in range(points.shape[1]):
                away[x] = np.float64(points[start[c] + j, x]) - np.float64(center[c, x])
                square += away[x] * away[x]
            outside = square
            for a in range(m):
                along = 0.0
                for x in range(points.shape[1]):
                    along += np.float64(axes[c, a, x]) * away[x]
                part[a, j] = along
                if a < n_flat:
                    outside -= along * along
            for a in range(m):
                for x in range(points.shape[1]):
                    away[x] -= np.float64(part[a, j]) * np.float64(axes[c, a, x])
            beside = 0.0
            for x in range(points.shape[1]):
                beside += away[x] * away[x]
            part[m, j] = np.sqrt(beside)
            largest, thickness = max(largest, square), max(thickness, outside)
        flat_rest[c] = np.sqrt(thickness + slack * largest)


@reordered
def _compare_point(row, points, i):
    """Squared distance of a row, (d,), from a point, in single precision."""
    total = np.float32(0)
    for x in range(row.shape[0]):
        difference = row[x] - points[i, x]
        total += difference * difference
    return total


@reordered
def _bound_cells(
    row, cell, n, first, last, center, axes, low, high, thickness, slack, enough,
    box, beside, bound,
):  # fmt: skip
    """Bound the squared distance of a row, (d,), from the points of ``n`` cells from below.

    Pythagoras: what the distance to the box and the distance beside its axes have to be at least.
    Axes ``first..last`` are added to those before, which left ``box`` and ``beside`` of each cell.
    Cells with a bound above ``enough`` are dropped from the lists; returns how many are left.
    """
    left, zero = 0, np.float32(0)
    for j in range(n):
        c = cell[j]
        inside, outside = box[j], beside[j]
        for a in range(first, last, 2):
            b = min(a + 1, last - 1)
            along = across = square = zero
            for x in range(row.shape[0]):
                offset = row[x] - center[c, x]
                square += offset * offset
                along += axes[c, a, x] * offset
                across += axes[c, b, x] * offset
            room = slack * np.sqrt(square)
            if a == 0:
                inside, outside = zero, square - slack * square
            gap = max(low[c, a] - along, along - high[c, a]) - room
            inside += gap * gap if gap > 0 else zero
            outside -= along * along
            if b > a:
                gap = max(low[c, b] - across, across - high[c, b]) - room
                inside += gap * gap if gap > 0 else zero
                outside -= across * across
        gap = np.sqrt(max(outside, zero)) - thickness[c]
        least = inside + (gap * gap if gap > 0 else zero)
        least -= slack * least + TINY
        cell[left], box[left], beside[left], bound[left] = c, inside, outside, least
        left += not least > enough
    return left


@compiled
def _find_near(near, half, radius, length, reach, slack, read, flag, cell):
    """Unread cells whose ball comes within ``reach``; their number. NaN leaves none out."""
    n = np.uint64(0)  # an index that cannot be negative is not tested for it
    one, two = np.float32(1), np.float32(2)
    for c in range(radius.shape[0]):
        limit = reach + radius[c]
        room = slack * (length + two * half[c])
        square = two * near[c] + length - room
        beyond = square > limit * limit * (one + slack) + TINY
        flag[c] = not (beyond | read[c])
    for c in range(radius.shape[0]):
        cell[n] = c
        n += np.uint64(flag[c])
    return np.int64(n)


@reordered
def _square_length(row):
    total = np.float32(0)
    for x in range(row.shape[0]):
        total += row[x] * row[x]
    return total


@reordered
def _compare_points(row, points, index, n, square):
    """Squared distances of a row, (d,), from ``n`` ascending points, in single precision."""
    if n > 0 and index[n - 1] - index[0] == n - 1:  # without a gap: a third faster
        first = index[0]
        for j in range(n):
            square[j] = _compare_point(row, points, first + j)
    else:
        for j in range(n):
            square[j] = _compare_point(row, points, index[j])


@reordered
def _choose_points(
    row, c, start, center, axes, radius, sketch, reach, slack, along, square, index
):  # fmt: skip
    """Points of cell c that may be within ``reach`` of a row, (d,); their number.

    By Pythagoras: their distance along the axes, and what it has to be at least beside them. What
    is NaN leaves no point out.
    """
    m, n = axes.shape[1], start[c + 1] - start[c]
    zero, one = np.float32(0), np.float32(1)
    length = _compare_point(row, center, c)
    outside = length
    for a in range(m):
        total = zero
        for x in range(row.shape[0]):
            total += axes[c, a, x] * (row[x] - center[c, x])
        along[a] = total
        outside -= total * total
    wide = n + -n % BLOCK
    first = place_sketch(start, c) * (m + 1)
    part = sketch[first : first + wide * (m + 1)].reshape(m + 1, wide)
    beside, thick = np.sqrt(max(outside, zero)), part[m]
    unsure = slack * length
    unsure *= np.float32(1.5) / np.sqrt(max(outside, unsure) + TINY)
    for j in range(wide):
        gap = abs(beside - thick[j]) - unsure
        square[j] = gap * gap if gap > 0 else zero
    for a in range(0, m, 2):
        b = min(a + 1, m - 1)
        here, there, used = along[a], along[b], one if b > a else zero
        part_a, part_b = part[a], part[b]
        for j in range(wide):
            gap, more = here - part_a[j], there - part_b[j]
            square[j] += gap * gap + used * (more * more)
    room = np.sqrt(np.float32(m + 1)) * slack * (np.sqrt(length) + radius[c])
    limit = (reach + room + np.sqrt(TINY)) ** 2 * (one + slack)
    found = 0
    for block in range(0, n, BLOCK):
        beyond = 0
        for j in range(block, block + BLOCK):
            beyond += square[j] > limit
        if beyond < BLOCK:
            for j in range(block, min(block + BLOCK, n)):
                index[found] = start[c] + j
                found += not square[j] > limit
    return found


@compiled
def _count_below(key, n, limit):
    count = 0
    for j in range(n):
        count += key[j] <= limit
    return count


@compiled
def _rank(key, n, width, bits, value):
    """Return the ``width``-th smallest of ``n`` keys >= 0; infinite where it is NaN or huge.

    Halves the range of bits. ``bits`` (1,) int32 and ``value``, its view as float32, are scratch.
    """
    if _count_below(key, n, HUGE) < width:
        return np.float32(np.inf)
    value[0] = HUGE
    low, high, top = np.int32(-1), bits[0], value[0]
    while high - low > 1:
        bits[0] = middle = (low + high) // 2
        count = _count_below(key, n, value[0])
        if count < width:
            low = middle
        else:
            high, top = middle, value[0]
            if count == width:
                break
    largest = np.float32(0)
    for j in range(n):
        if largest < key[j] <= top:
            largest = key[j]
    return largest


@compiled
def _keep_points(index, square, n, width, last, slack, kept, key, n_kept, bits, value):
    """Keep those of ``n`` points that may be among the nearest, with their squares.

    ``kept`` and ``key`` have room for them. Returns how many are kept, and what the last of the
    nearest points can be away at most, squared: infinite as long as there are fewer than ``width``.
    """
    limit = np.float32(last * (1.0 + 2.0 * slack) + TINY)
    before = n_kept
    for j in range(n):
        kept[n_kept], key[n_kept] = index[j], square[j]
        n_kept += not square[j] > limit
    if n_kept == before or n_kept < width:
        return n_kept, last
    last = _rank(key, n_kept, width, bits, value) * (1.0 + slack) + TINY
    limit = np.float32(last * (1.0 + 2.0 * slack) + TINY)
    n_left = 0
    for j in range(n_kept):
        kept[n_left], key[n_left] = kept[j], key[j]
        n_left += not key[j] > limit
    return n_left, last


@compiled
def _widen(kept, key, more):
    """Double the room for the kept points of some rows, (n, room), and their keys."""
    n, room = kept.shape
    wider = np.empty((n, 2 * (room + more)), np.int64)
    wider_key = np.empty((n, 2 * (room + more)), np.float32)
    wider[:, :room], wider_key[:, :room] = kept, key
    return wider, wider_key


@compiled
def _measure_kept(row, points, number, kept, n_kept, found, distance):
    """Measure points in double precision; ``found`` gets the points of the nearest.

    ``distance`` gets their squares; equal ones are ordered by the number of the point.
    """
    n_found, width = 0, found.shape[0]
    end = n_kept - 1
    for first in range(0, n_kept, 4):  # at a time: each sum has to wait for itself
        r0, r1 = points[kept[first]], points[kept[min(first + 1, end)]]
        r2, r3 = points[kept[min(first + 2, end)]], points[kept[min(first + 3, end)]]
        s0 = s1 = s2 = s3 = 0.0
        for x in range(row.shape[0]):
            here = np.float64(row[x])
            d0, d1 = here - np.float64(r0[x]), here - np.float64(r1[x])
            d2, d3 = here - np.float64(r2[x]), here - np.float64(r3[x])
            s0 += d0 * d0
            s1 += d1 * d1
            s2 += d2 * d2
            s3 += d3 * d3
        for j in range(first, min(first + 4, n_kept)):
            exact, p = s0, number[kept[j]]
            s0, s1, s2 = s1, s2, s3
            slot = n_found
            if n_found == width:
                slot -= 1
                if exact > distance[slot] or (exact == distance[slot] and p > found[slot]):
                    continue
            else:
                n_found += 1
            while slot > 0 and (
                distance[slot - 1] > exact or (distance[slot - 1] == exact and found[slot - 1] > p)
            ):
                distance[slot], found[slot] = distance[slot - 1], found[slot - 1]
                slot -= 1
            distance[slot], found[slot] = exact, p


@compiled
def _push(key, item, n, new_key, new_item):
    """Add to a heap of ``n``, the smallest key at its root; returns how many there are."""
    place = n
    while place > 0 and key[(place - 1) // 2] > new_key:
        key[place], item[place] = key[(place - 1) // 2], item[(place - 1) // 2]
        place = (place - 1) // 2
    key[place], item[place] = new_key, new_item
    return n + 1


@compiled
def _pop(key, item, n):
    """Drop the root of a heap of ``n``; returns how many are left."""
    n -= 1
    last_key, last_item, place = key[n], item[n], 0
    while 2 * place + 1 < n:
        child = 2 * place + 1
        if child + 1 < n and key[child + 1] < key[child]:
            child += 1
        if key[child] >= last_key:
            break
        key[place], item[place] = key[child], item[child]
        place = child
    key[place], item[place] = last_key, last_item
    return n


@compiled
def search_cells(
    rows, products, half, slack, found,
    points, number, start, center, axes, low, high, rest, radius, flat_rest, sketch,
):  # fmt: skip
    """Find the nearest points of each row, (n, d) float32.

    ``products`` (n, n_cells or more) are those of :func:`multiply_tiles`.
    First the cell with the nearest center is read (and more, until there are enough points); then,
    of the cells whose ball is near enough, those whose box is, the nearest first, until the bound
    of the next one exceeds the last distance found. Of these cells, only the points are compared
    that may be near enough by their ``sketch``, in single precision; those that this cannot rule
    out are measured in double in the end. A comparison with NaN skips nothing.
    ``found`` (n, width) gets the points, width being at most their number. ``sketch`` and
    ``flat_rest``, the ``rest`` beside the first FLAT axes, are those of :func:`sketch_points`.
    """
    n_cells, width = center.shape[0], found.shape[1]
    n_axes = axes.shape[1]
    n_flat = min(FLAT, n_axes)
    largest = CHUNK
    if n_cells > 1:
        largest = max(CHUNK, (start[1:] - start[:-1]).max() + BLOCK)
    square, index = np.empty(largest, dtype=np.float32), np.empty(largest, dtype=np.int64)
    kept = np.empty((1, 2 * largest), dtype=np.int64)
    key = np.empty((1, 2 * largest), dtype=np.float32)
    along = np.empty(n_axes + 1, dtype=np.float32)
    distance = np.empty(width)
    box, beside, least, bound = np.empty((4, n_cells), dtype=np.float32)
    in_reach, cell = np.empty((2, n_cells + 1), dtype=np.int64)
    read, flag = np.empty((2, n_cells), dtype=np.bool_)
    low_of, place_of = np.empty(LANES, dtype=np.float32), np.empty(LANES, dtype=np.int32)
    bits = np.empty(1, dtype=np.int32)
    value = bits.view(np.float32)
    for i in range(rows.shape[0]):
        row, near = rows[i], products[i]
        length = _square_length(row)
        n_kept, last = 0, np.inf
        read[:] = False
        c = _smallest(near, low_of, place_of)
        if c >= n_cells:  # all of them overflow
            c = 0
        while True:
            for first in range(start[c], start[c + 1], CHUNK):
                n = min(CHUNK, start[c + 1] - first)
                for j in range(n):
                    index[j] = first + j
                if n_kept + n > kept.shape[1]:
                    kept, key = _widen(kept, key, n)
                _compare_points(row, points, index, n, square)
                n_kept, last = _keep_points(
                    index, square, n, width, last, slack, kept[0], key[0], n_kept, bits, value
                )
            read[c] = True
            if n_kept >= width:
                break
            c = -1
            for other in range(n_cells):
                if not read[other] and (c < 0 or near[other] < near[c]):
                    c = other
        reach, enough = np.float32(np.sqrt(last)), np.float32(last)
        n_near = _find_near(near, half, radius, length, reach, slack, read, flag, in_reach)
        for first, stop, thickness in ((0, n_flat, flat_rest), (n_flat, n_axes, rest)):
            n_near = _bound_cells(
                row, in_reach, n_near, first, stop, center, axes, low, high, thickness, slack,
                enough, box, beside, least,
            )  # fmt: skip
        waiting = 0
        for j in range(n_near):
            waiting = _push(bound, cell, waiting, least[j], in_reach[j])
        while waiting > 0 and not np.float64(bound[0]) > last:
            c = cell[0]
            n = _choose_points(
                row, c, start, center, axes, radius, sketch, np.float32(np.sqrt(last)), slack,
                along, square, index,
            )  # fmt: skip
            if n_kept + n > kept.shape[1]:
                kept, key = _widen(kept, key, n)
            if n > 0:
                _compare_points(row, points, index, n, square)
                n_kept, last = _keep_points(
                    index, square, n, width, last, slack, kept[0], key[0], n_kept, bits, value
                )
            waiting = _pop(bound, cell, waiting)
        _measure_kept(row, points, number, kept[0], n_kept, found[i], distance)


@compiled
def _walk_graph(
    row, n_leaves, stretch, limit, bit, seen, compared, squares, nearest, distance,
    margin, node, near, waiting,
    points, indptr, indices, hyperplanes, offsets, children, leaf_points,
):  # fmt: skip
    """Walk for one row, see :func:`search_graph`.

    Returns how many points were compared, which are in ``compared``, and whether the walk failed.
    """
    n_nodes, width = children.shape[0], nearest.shape[0]
    n_found = n_seen = n_waiting = 0
    n_open = _push(margin, node, 0, np.float32(0), 0)
    n_read = n_visited = 0
    while True:
        if n_open > 0 and n_read < n_leaves and n_visited < n_nodes:  # not in a damaged one
            here, so_far = node[0], margin[0]
            n_open = _pop(margin, node, n_open)
            n_visited += 1
            if 0 < children[here, 0] < n_nodes:
                side = _margin(row, hyperplanes, offsets, here)
                first, second = children[here, 0], children[here, 1] % n_nodes
                if not side > 0:
                    first, second = second, first
                n_open = _push(margin, node, n_open, so_far, first)
                n_open = _push(margin, node, n_open, max(so_far, abs(side)), second)
                continue
            n_read += 1
            edges, first, last = leaf_points, -children[here, 0], -children[here, 1]
            first, last = max(first, 0), min(last, leaf_points.shape[0])
        elif n_waiting > 0 and not (n_found == width and near[0] > stretch * distance[width - 1]):
            here = waiting[0]
            n_waiting = _pop(near, waiting, n_waiting)
            edges, first, last = indices, indptr[here], indptr[here + 1]
        else:
            return n_seen, n_found < width
        for e in range(first, last):
            index = edges[e]
            if seen[index] & bit:
                continue
            if n_seen == limit:
                return n_seen, True
            d = _compare_point(row, points, index)
            seen[index] |= bit
            compared[n_seen], squares[n_seen] = index, d
            n_seen += 1
            if n_found == width and d > stretch * distance[width - 1]:
                continue
            n_waiting = _push(near, waiting, n_waiting, d, index)
            slot = n_found
            if n_found < width:
                n_found += 1
            elif d < distance[width - 1]:
                slot -= 1
            else:
                continue
            while slot > 0 and distance[slot - 1] > d:
                distance[slot], nearest[slot] = distance[slot - 1], nearest[slot - 1]
                slot -= 1
            distance[slot], nearest[slot] = d, index


@compiled
def search_graph(
    rows, n_leaves, stretch, limit, slack, found, n_compared,
    points, number, indptr, indices, hyperplanes, offsets, children, leaf_points,
):  # fmt: skip
    """Follow a graph from the leaves of a tree to ever nearer points of each row, (n, d) float32.

    Begins with the points of the ``n_leaves`` leaves whose splits the row is nearest to, and goes
    on with the edges of the nearest point known, until that one's squared distance is above
    ``stretch`` times the last of those found. A row that has not ended after ``limit`` points, or
    found fewer than ``width``, is compared with all the others too, and gets the nearest ones
    exactly. No point is ever compared twice. ``found`` (n, width) gets the points, nearest first,
    ``n_compared`` (n,) how many points were compared: all of them where the search was exact.
    """
    n_points, n_nodes, width = points.shape[0], children.shape[0], found.shape[1]
    margin = np.empty(n_nodes + 1, dtype=np.float32)
    node = np.empty(n_nodes + 1, dtype=np.int64)
    seen = np.zeros(n_points, dtype=np.uint8)  # one bit for each row of a block
    compared = np.empty(limit, dtype=np.int64)
    squares = np.empty(limit, dtype=np.float32)
    near = np.empty(limit, dtype=np.float32)
    waiting = np.empty(limit, dtype=np.int64)
    distance = np.empty(width, dtype=np.float32)
    stuck = np.empty(TOGETHER, dtype=np.int64)
    n_kept, last = np.empty(TOGETHER, dtype=np.int64), np.empty(TOGETHER)
    kept = np.empty((TOGETHER, 2 * CHUNK), dtype=np.int64)
    key = np.empty((TOGETHER, 2 * CHUNK), dtype=np.float32)
    index, square = np.empty(CHUNK, dtype=np.int64), np.empty(CHUNK, dtype=np.float32)
    exact = np.empty(width)
    bits = np.empty(1, dtype=np.int32)
    value = bits.view(np.float32)
    for block in range(0, rows.shape[0], TOGETHER):
        n_stuck = 0
        for i in range(block, min(block + TOGETHER, rows.shape[0])):
            bit = np.uint8(1 << (i - block))
            n_seen, full = _walk_graph(
                rows[i], n_leaves, stretch, limit, bit, seen, compared, squares, found[i],
                distance, margin, node, near, waiting,
                points, indptr, indices, hyperplanes, offsets, children, leaf_points,
            )  # fmt: skip
            n_compared[i] = n_seen
            if not full and n_seen < n_points:
                for j in range(n_seen):
                    seen[compared[j]] &= ~bit
                for j in range(width):
                    found[i, j] = number[found[i, j]]
                continue
            s = n_stuck
            stuck[s], n_kept[s], last[s] = i, 0, np.inf
            n_stuck += 1
            for first in range(0, n_seen, CHUNK):
                n = min(CHUNK, n_seen - first)
                if n_kept[s] + n > kept.shape[1]:
                    kept, key = _widen(kept, key, n)
                n_kept[s], last[s] = _keep_points(
                    compared[first:], squares[first:], n, width, last[s], slack,
                    kept[s], key[s], n_kept[s], bits, value,
                )  # fmt: skip
        if n_stuck == 0:
            continue
        for first in range(0, n_points, CHUNK):
            for s in range(n_stuck):
                i, n = stuck[s], 0
                bit = np.uint8(1 << (i - block))
                for j in range(first, min(first + CHUNK, n_points)):
                    index[n] = j
                    n += seen[j] & bit == 0
                if n_kept[s] + n > kept.shape[1]:
                    kept, key = _widen(kept, key, n)
                _compare_points(rows[i], points, index, n, square)
                n_kept[s], last[s] = _keep_points(
                    index, square, n, width, last[s], slack, kept[s], key[s], n_kept[s], bits, value
                )
                n_compared[i] += n
        for s in range(n_stuck):
            _measure_kept(
                rows[stuck[s]], points, number, kept[s], n_kept[s], found[stuck[s]], exact
            )
        seen[:] = 0
