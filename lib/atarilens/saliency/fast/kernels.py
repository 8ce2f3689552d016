"""Vector kernels of the fast CPU path, compiled by Numba for the machine that they run on.

The one hot loop of a convolution, and of a recurrent cell's input product, is: for a tile of P
pixels and 2 vectors of output channels, acc[p] += x[pixel p, channel] * weights[channel, :]. All
2 P accumulators stay in registers, so each weight is loaded once per P pixels. LLVM does not find
this form by itself in loops over arrays, so the tile is written in LLVM's own vector types.
"""

import os
import threading
from pathlib import Path

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, event
from numba.core.caching import NullCache
from numba.extending import intrinsic
from tqdm.auto import tqdm

CHANNELS = 32


def _has_avx512() -> bool:
    try:
        return bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))
    except RuntimeError:  # LLVM cannot tell on this kind of machine
        return False


# 32 registers of 16 lanes with AVX-512, else 16 registers of 8 (narrower machines take pairs).
LANES, TILE, TAIL = (16, 12, 4) if _has_avx512() else (8, 6, 2)
PANEL = 2 * LANES  # output channels of a tile
UNROLL = 8

# 2 ** f for f in [-1/2, 1/2]: the polynomial of least maximal relative error, 1e-7
EXP2 = (
    1.0,
    0.6931470036506653,
    0.24022242426872253,
    0.05550733953714371,
    0.009671512991189957,
    0.001326472032815218,
)
LOG2_E = 1.4426950408889634
ROUND = 12582912.0  # 1.5 * 2 ** 23: adding it rounds a float32 to a whole number

KERNEL, LAYERS = 3, 4

_float, _int = ir.FloatType(), ir.IntType(32)
_vector, _ints = ir.VectorType(_float, LANES), ir.VectorType(_int, LANES)


def _splat(builder, scalar):
    """Return a vector with the scalar in every lane."""
    vector = builder.insert_element(ir.Constant(_vector, ir.Undefined), scalar, _int(0))
    return builder.shuffle_vector(vector, vector, ir.Constant(_ints, [0] * LANES))


def _constant(value, kind=_vector):
    return ir.Constant(kind, [value] * LANES)


def _fma(builder, a, b, c):
    kind = ir.FunctionType(_vector, [_vector] * 3)
    name = f"llvm.fmuladd.v{LANES}f32"  # one rounding where the CPU has it, else two
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


def _smaller(builder, a, b):
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


def _exp2(builder, power):
    """Return (m, s) with 2 ** power = m * s to 2e-7, for powers from -126 (held there) to 126."""
    least = _constant(-126.0)
    power = builder.select(builder.fcmp_ordered("<", power, least), least, power)
    rounded = builder.fadd(power, _constant(ROUND))
    fraction = builder.fsub(power, builder.fsub(rounded, _constant(ROUND)))
    mantissa = _constant(EXP2[-1])
    for coefficient in EXP2[-2::-1]:
        mantissa = _fma(builder, mantissa, fraction, _constant(coefficient))
    exponent = builder.shl(builder.bitcast(rounded, _ints), _constant(23, _ints))
    scale = builder.bitcast(builder.add(exponent, _constant(0x3F800000, _ints)), _vector)
    return mantissa, scale


def _elu(builder, x):
    """Return max(x, 0) + exp(min(x, 0)) - 1."""
    zero = _constant(0.0)
    power = builder.fmul(_smaller(builder, x, zero), _constant(LOG2_E))
    mantissa, scale = _exp2(builder, power)
    positive = builder.select(builder.fcmp_ordered("<", zero, x), x, zero)
    return builder.fadd(positive, _fma(builder, mantissa, scale, _constant(-1.0)))


def _make_tile(pixels: int, depth: int, activate: bool):
    """Return the tile of that many pixels: sums over taps and `depth` channels each.

    tile(x, x_at, y, y_at, first, shift, x_taps, w_taps, taps, w, w_start, bias): for every pixel p
    and channel o of a panel,

        y[y_at[first + p] + shift + o] = ELU(bias[shift + o] + sum over tap, channel of
            x[x_at[first + p] + x_taps[tap] + channel] * w[w_start + w_taps[tap] + channel, o])
    """

    @intrinsic
    def tile(context, x, x_at, y, y_at, first, shift, x_taps, w_taps, taps, w, w_start, bias):
        signature = types.void(
            x, x_at, y, y_at, first, shift, x_taps, w_taps, taps, w, w_start, bias
        )
        return signature, generate

    def generate(context, builder, signature, args):
        def pointer(position):
            kind = signature.args[position]
            return context.make_array(kind)(context, builder, args[position]).data

        def load_vector(base, offset):
            place = builder.gep(base, [offset])
            return builder.load(builder.bitcast(place, _vector.as_pointer()), align=4)

        x, x_at, y, y_at, x_taps, w_taps, w, bias = map(pointer, (0, 1, 2, 3, 6, 7, 9, 11))
        first, shift, taps, w_start = (args[position] for position in (4, 5, 8, 10))
        word = first.type
        halves = (word(0), word(LANES))

        sums = [[cgutils.alloca_once(builder, _vector) for _ in halves] for _ in range(pixels)]
        for half, start in enumerate(halves):
            value = load_vector(bias, builder.add(shift, start))
            for pixel in sums:
                builder.store(value, pixel[half])
        places = [builder.add(first, word(p)) for p in range(pixels)]
        inputs = [builder.gep(x, [builder.load(builder.gep(x_at, [at]))]) for at in places]

        def multiply(columns, sources, offset):
            """Add one input channel's contribution to every sum."""
            start = builder.mul(offset, word(PANEL))
            weights = [load_vector(columns, builder.add(start, half)) for half in halves]
            for source, pixel in zip(sources, sums, strict=True):
                value = _splat(builder, builder.load(builder.gep(source, [offset])))
                for weight, total in zip(weights, pixel, strict=True):
                    builder.store(_fma(builder, value, weight, builder.load(total)), total)

        with cgutils.for_range(builder, taps) as loop:
            shift_x = builder.load(builder.gep(x_taps, [loop.index]))
            shift_w = builder.load(builder.gep(w_taps, [loop.index]))
            start = builder.mul(builder.add(w_start, shift_w), word(PANEL))
            columns = builder.gep(w, [start])
            sources = [builder.gep(source, [shift_x]) for source in inputs]
            if depth == 1:
                multiply(columns, sources, word(0))
            else:
                steps = cgutils.for_range_slice(
                    builder, word(0), word(depth), word(UNROLL), intp=word
                )
                with steps as (channel, _):
                    for step in range(UNROLL):
                        multiply(columns, sources, builder.add(channel, word(step)))

        for at, pixel in zip(places, sums, strict=True):
            start = builder.add(builder.load(builder.gep(y_at, [at])), shift)
            for half, total in zip(halves, pixel, strict=True):
                value = builder.load(total)
                if activate:
                    value = _elu(builder, value)
                place = builder.gep(y, [builder.add(start, half)])
                builder.store(value, builder.bitcast(place, _vector.as_pointer()), align=4)
        return context.get_dummy_value()

    return tile


@intrinsic
def _sigmoid(context, values, start, stop, factor):
    """Replace values[start:stop] by 1 / (1 + exp(-factor * value)); a whole number of vectors."""
    signature = types.void(values, start, stop, factor)

    def generate(context, builder, signature, args):
        kind = signature.args[0]
        data = context.make_array(kind)(context, builder, args[0]).data
        word = args[1].type
        factor = context.cast(builder, args[3], signature.args[3], types.float32)
        factor = builder.fmul(_splat(builder, factor), _constant(-LOG2_E))
        steps = cgutils.for_range_slice(builder, args[1], args[2], word(LANES), intp=word)
        with steps as (at, _):
            place = builder.bitcast(builder.gep(data, [at]), _vector.as_pointer())
            power = builder.fmul(builder.load(place, align=4), factor)
            mantissa, scale = _exp2(builder, _smaller(builder, power, _constant(126.0)))
            one = _constant(1.0)
            value = builder.fdiv(one, _fma(builder, mantissa, scale, one))
            builder.store(value, place, align=4)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _move(context, source, target, start, stop):
    """Copy source[start:stop] to the same place of target; a whole number of vectors."""
    signature = types.void(source, target, start, stop)

    def generate(context, builder, signature, args):
        source, target = (
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args[:2], args[:2], strict=True)
        )
        word = args[2].type
        steps = cgutils.for_range_slice(builder, args[2], args[3], word(LANES), intp=word)
        with steps as (at, _):
            places = [
                builder.bitcast(builder.gep(data, [at]), _vector.as_pointer())
                for data in (source, target)
            ]
            builder.store(builder.load(places[0], align=4), places[1], align=4)
        return context.get_dummy_value()

    return signature, generate


_image_tile, _image_tail = (_make_tile(pixels, 1, True) for pixels in (TILE, TAIL))
_tile, _tail = (_make_tile(pixels, CHANNELS, True) for pixels in (TILE, TAIL))
_gate_tile, _gate_tail = (_make_tile(pixels, CHANNELS, False) for pixels in (TILE, TAIL))


def _kernel(function):
    """Compile a kernel that is called from Python, and keep the result in the user's cache folder.

    Numba writes there atomically, keyed by source and CPU. Where no folder can be written, each
    process compiles for itself.
    """
    kernel = njit(nogil=True)(function)
    previous = numba.config.CACHE_DIR
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = os.environ.get("ATARILENS_CACHE") or Path(home) / "atarilens"
        numba.config.CACHE_DIR = previous or str(Path(folder) / "numba")
        kernel.enable_caching()
    except RuntimeError:  # no home, or nothing there can be written
        kernel._cache = NullCache()
    finally:
        numba.config.CACHE_DIR = previous
    return kernel


class _Announcement(event.Listener):
    """Show that functions are being compiled, if any are."""

    bar = None

    def on_start(self, event) -> None:
        """Show the bar: this kernel was not in the cache."""
        if self.bar is None:
            text = "compiling the fast path, once per machine"
            self.bar = tqdm(desc=text, unit=" functions", leave=False)

    def on_end(self, event) -> None:
        """Count a function."""
        self.bar.update()


_compiling = threading.Lock()
_compiled: set = set()


def compile_once(kernel, *arguments) -> None:
    """Compile a kernel for arguments like these, or load it, unless this process did already."""
    if kernel in _compiled:
        return
    with _compiling, event.install_listener("numba:compile", _Announcement()) as announcement:
        signature = tuple(map(numba.typeof, arguments))
        try:
            kernel.compile(signature)
        except Exception:  # a damaged cache or a full disk: do without; other errors come again
            kernel._cache = NullCache()
            kernel.compile(signature)
        _compiled.add(kernel)
        if announcement.bar is not None:
            announcement.bar.close()


@njit(nogil=True)
def _aligned(size):
    """Return uninitialised float32 that starts at a cache line."""
    array = np.empty(size + 16, np.float32)
    start = (-array.ctypes.data // 4) % 16
    return array[start : start + size]


@njit(nogil=True)
def _convolve(x, depth, y, y_at, n, x_at, x_taps, w_taps, w, bias):
    """Compute n output pixels, 32 channels each, listed by their places in x and y."""
    for extra in range(n, n + TAIL):  # the last tile repeats the last pixel
        x_at[extra], y_at[extra] = x_at[n - 1], y_at[n - 1]
    taps = KERNEL * KERNEL
    for shift in range(0, CHANNELS, PANEL):
        w_start = shift // PANEL * taps * depth
        first = 0
        if depth == 1:
            while first + TILE <= n:
                _image_tile(x, x_at, y, y_at, first, shift, x_taps, w_taps, taps, w, w_start, bias)
                first += TILE
            while first < n:
                _image_tail(x, x_at, y, y_at, first, shift, x_taps, w_taps, taps, w, w_start, bias)
                first += TAIL
        else:
            while first + TILE <= n:
                _tile(x, x_at, y, y_at, first, shift, x_taps, w_taps, taps, w, w_start, bias)
                first += TILE
            while first < n:
                _tail(x, x_at, y, y_at, first, shift, x_taps, w_taps, taps, w, w_start, bias)
                first += TAIL


@njit(nogil=True)
def _surround(own, base, width, depth, window, reads):
    """Copy from `base` what a layer reads around a window, both in padded coordinates."""
    top, bottom, left, right = window
    for row in range(reads[0], reads[1]):
        start, stop = (row * width + reads[2]) * depth, (row * width + reads[3]) * depth
        inner, outer = (row * width + left) * depth, (row * width + right) * depth
        if row < top or row >= bottom:
            inner = outer = stop
        if depth == 1:
            for at in range(start, inner):
                own[at] = base[at]
            for at in range(outer, stop):
                own[at] = base[at]
        else:
            _move(base, own, start, inner)
            _move(base, own, outer, stop)


@njit(nogil=True)
def _encode(own, base, window, encoding, weights, x_at, y_at):
    """Recompute what a window (top, bottom, left, right) of the image reaches, layer by layer.

    Image and activations lie in buffers, each with a border of one zero pixel, channels innermost;
    those of the unperturbed image in `base`; the last layer goes to `encoding` without a border.
    Nothing in `own` is read but the window and what is computed or copied from `base` here.

    Returns:
        The window of the last layer that was recomputed.
    """
    top, bottom, left, right = window
    widths = weights.widths
    for layer in range(LAYERS):
        depth = 1 if layer == 0 else CHANNELS
        size = widths[layer + 1] - 2
        inside = (top + 1, bottom + 1, left + 1, right + 1)
        # An output at o reads inputs 2 o - 1 to 2 o + 1.
        top, bottom = top // 2, min(bottom // 2 + 1, size)
        left, right = left // 2, min(right // 2 + 1, size)
        reads = (2 * top, 2 * bottom + 1, 2 * left, 2 * right + 1)
        _surround(own[layer], base[layer], widths[layer], depth, inside, reads)
        last = layer == LAYERS - 1
        n = 0
        for row in range(top, bottom):
            for column in range(left, right):
                x_at[n] = (2 * row * widths[layer] + 2 * column) * depth
                if last:
                    y_at[n] = (row * size + column) * CHANNELS
                else:
                    y_at[n] = ((row + 1) * widths[layer + 1] + column + 1) * CHANNELS
                n += 1
        y = encoding if last else own[layer + 1]
        _convolve(
            own[layer],
            depth,
            y,
            y_at,
            n,
            x_at,
            weights.x_taps[layer],
            weights.w_taps[layer],
            weights.conv[layer],
            weights.bias[layer],
        )
    return top, bottom, left, right


@_kernel
def encode_image(image, difference, counts, encoding, buffers, weights):
    """Fill the buffers and `encoding` with the activations of an unperturbed image `[H, W]`.

    `counts` `[H + 1, W + 1]` gets how many pixels above and to the left are changed by the blur,
    that is, have a `difference` other than 0.
    """
    height, width = image.shape
    for row in range(height):
        for column in range(width):
            buffers[0][(row + 1) * weights.widths[0] + column + 1] = image[row, column]
            counts[row + 1, column + 1] = (
                counts[row, column + 1]
                + counts[row + 1, column]
                - counts[row, column]
                + (difference[row, column] != 0)
            )
    x_at, y_at = _places(weights)
    _encode(buffers, buffers, (0, height, 0, width), encoding, weights, x_at, y_at)


@njit(nogil=True)
def _places(weights):
    """Return scratch for the places of a layer's pixels in its input and output."""
    size = (weights.widths[1] - 2) ** 2 + TILE
    return np.empty(size, np.int64), np.empty(size, np.int64)


@njit(nogil=True)
def _changed(counts, top, bottom, left, right):
    """Return how many pixels of a window the blur changes; counts are cumulative on both axes."""
    return counts[bottom, right] - counts[top, right] - counts[bottom, left] + counts[top, left]


@njit(nogil=True)
def _shrink(counts, top, bottom, left, right):
    """Return the smallest window that holds every changed pixel of a window, which has some."""
    while _changed(counts, top, top + 1, left, right) == 0:
        top += 1
    while _changed(counts, bottom - 1, bottom, left, right) == 0:
        bottom -= 1
    while _changed(counts, top, bottom, left, left + 1) == 0:
        left += 1
    while _changed(counts, top, bottom, right - 1, right) == 0:
        right -= 1
    return top, bottom, left, right


@njit(nogil=True)
def _input_products(encodings, reached, n, gates, weights):
    """Set by how much the cell's gates change under each of n masks, before any activation.

    The input's share of them is linear, so `encodings` holds differences to the unperturbed one,
    and only pixels that one of a tile's masks reached are multiplied.
    """
    units, size = encodings.shape[1], gates.shape[1]
    pixels, width = units // CHANNELS, weights.widths[LAYERS] - 2
    tiles = (n + TILE - 1) // TILE
    x_at, y_at = np.empty(tiles * TILE, np.int64), np.empty(tiles * TILE, np.int64)
    places, counts = np.empty((tiles, pixels), np.int64), np.zeros(tiles, np.int64)
    for mask in range(tiles * TILE):  # the last tile repeats the last mask
        x_at[mask], y_at[mask] = min(mask, n - 1) * units, min(mask, n - 1) * size
    for tile in range(tiles):
        top, bottom, left, right = width, 0, width, 0
        for mask in range(tile * TILE, min((tile + 1) * TILE, n)):
            top, bottom = min(top, reached[mask, 0]), max(bottom, reached[mask, 1])
            left, right = min(left, reached[mask, 2]), max(right, reached[mask, 3])
        for row in range(top, bottom):
            for column in range(left, right):
                places[tile, counts[tile]] = (row * width + column) * CHANNELS
                counts[tile] += 1
    x, y, nothing = encodings.reshape(-1), gates.reshape(-1), np.zeros(size, np.float32)
    for shift in range(0, size, PANEL):  # a panel of weights stays in the cache for all tiles
        start = shift // PANEL * units
        for tile in range(tiles):
            _gate_tile(
                x,
                x_at,
                y,
                y_at,
                tile * TILE,
                shift,
                places[tile],
                places[tile],
                counts[tile],
                weights.gates,
                start,
                nothing,
            )


@njit(nogil=True, fastmath={"reassoc", "contract", "nsz"})  # sums in any order: vectors
def _dot(a, b):
    total = np.float32(0)
    for k in range(len(a)):
        total += a[k] * b[k]
    return total


@njit(nogil=True)
def _recur(gates, frame, weights, hidden):
    """Set the hidden layer from the change of one mask's gates, which is overwritten."""
    for k in range(len(gates)):
        gates[k] += frame.gates[k]
    units = len(hidden)
    if weights.lstm:  # input, forget, new, output
        _sigmoid(gates, 0, 2 * units, 1.0)
        _sigmoid(gates, 2 * units, 3 * units, 2.0)  # tanh(x) = 2 sigmoid(2 x) - 1
        _sigmoid(gates, 3 * units, 4 * units, 1.0)
        for u in range(units):
            new = 2 * gates[2 * units + u] - 1
            hidden[u] = gates[units + u] * frame.state[u] + gates[u] * new
        _sigmoid(hidden, 0, units, 2.0)
        for u in range(units):
            hidden[u] = gates[3 * units + u] * (2 * hidden[u] - 1)
    else:  # reset, keep, new
        _sigmoid(gates, 0, 2 * units, 1.0)
        for u in range(units):
            hidden[u] = gates[2 * units + u] + gates[u] * frame.recurrent[u]
        _sigmoid(hidden, 0, units, 2.0)
        for u in range(units):
            keep = gates[units + u]
            hidden[u] = (1 - keep) * (2 * hidden[u] - 1) + keep * frame.state[u]


@_kernel
def score_masks(order, actor, critic, frame, grid, weights, centred):
    """Score masks of one frame: entries `order` of the flat grids `actor` and `critic`.

    Args:
        order: indices of masks, neighbours together.
        actor: `[n * m]` float32, written.
        critic: `[n * m]` float32, written.
        frame: `fast.Frame`, what the frame's masks share.
        grid: `fast.Grid`, the masks.
        weights: `fast.Weights`, the network.
        centred: take the mean over actions off the change of the logits.
    """
    base = frame.buffers
    own = (
        _aligned(len(base[0])),
        _aligned(len(base[1])),
        _aligned(len(base[2])),
        _aligned(len(base[3])),
    )
    x_at, y_at = _places(weights)
    units = len(frame.encoding)
    encodings = _aligned(len(order) * units).reshape(len(order), units)
    reached = np.empty((len(order), 4), np.int64)
    scored = np.empty(len(order), np.int64)
    columns = grid.scale.shape[1]
    width = weights.widths[0]
    n = 0
    for mask in order:
        i, j = mask // columns, mask % columns
        top, bottom = grid.row_support[i, 0], grid.row_support[i, 1]
        left, right = grid.column_support[j, 0], grid.column_support[j, 1]
        if _changed(frame.counts, top, bottom, left, right) == 0:
            actor[mask] = critic[mask] = 0  # the blur changes nothing here
            continue
        top, bottom, left, right = _shrink(frame.counts, top, bottom, left, right)
        window = (top, bottom, left, right)
        for row in range(top, bottom):
            a = grid.rows[0, i, row] * grid.scale[i, j]
            b = grid.rows[1, i, row] * grid.scale[i, j]
            start = (row + 1) * width + 1
            for column in range(left, right):
                value = a * grid.columns[0, j, column] + b * grid.columns[1, j, column]
                at = start + column
                own[0][at] = base[0][at] + value * frame.difference[row, column]
        encodings[n] = 0
        top, bottom, left, right = _encode(own, base, window, encodings[n], weights, x_at, y_at)
        reached[n, 0], reached[n, 1], reached[n, 2], reached[n, 3] = top, bottom, left, right
        size = weights.widths[LAYERS] - 2
        for row in range(top, bottom):
            for at in range((row * size + left) * CHANNELS, (row * size + right) * CHANNELS):
                encodings[n, at] -= frame.encoding[at]
        scored[n] = mask
        n += 1
    if n == 0:
        return
    gates = _aligned(n * len(frame.gates)).reshape(n, len(frame.gates))
    _input_products(encodings, reached, n, gates, weights)
    hidden = np.empty(len(frame.hidden), np.float32)
    actions = len(weights.heads) - 1
    changes = np.empty(actions, np.float32)
    for k in range(n):
        _recur(gates[k], frame, weights, hidden)
        for u in range(len(hidden)):
            hidden[u] -= frame.hidden[u]
        mean = np.float32(0)
        for action in range(actions):
            changes[action] = _dot(weights.heads[action], hidden)
            mean += changes[action] / np.float32(actions)
        total = np.float32(0)
        for action in range(actions):
            change = changes[action] - mean if centred else changes[action]
            total += change * change
        actor[scored[k]] = total / 2
        critic[scored[k]] = _dot(weights.heads[actions], hidden) ** 2 / 2


@_kernel
def score_nothing(frame, weights):
    """Set the hidden layer of the unperturbed frame: what scores compare with."""
    _recur(np.zeros(len(frame.gates), np.float32), frame, weights, frame.hidden)
