"""What each MIL operation computes, in numpy and PyTorch: `OPERATIONS[name](arguments)` returns an array or a tuple.

Arrays come in and go out as numpy; floats all have one precision, chosen by the caller. mil_oracle.py casts results to
the declared types, so nothing here cares about float16 or the width of integers.
"""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from scipy import special

OPERATIONS = {}
TYPES = {
    "fp16": np.float16, "fp32": np.float32, "int8": np.int8, "uint8": np.uint8, "int16": np.int16, "uint16": np.uint16,
    "int32": np.int32, "uint32": np.uint32, "int64": np.int64, "bool": np.bool_,
}  # fmt: skip


def operation(*names):
    def register(function):
        for name in names or (function.__name__,):
            OPERATIONS[name] = function
        return function

    return register


def tensor(array):
    return torch.from_numpy(np.array(array, copy=True, order="C"))


def is_float(array):
    return np.issubdtype(np.asarray(array).dtype, np.floating)


# Element-wise.

UNARY = {
    "abs": np.abs, "acos": np.arccos, "asin": np.arcsin, "atan": np.arctan, "atanh": np.arctanh, "ceil": np.ceil,
    "cos": np.cos, "cosh": np.cosh, "erf": special.erf, "exp": np.exp, "exp2": np.exp2, "floor": np.floor,
    "identity": np.array, "logical_not": np.logical_not, "relu": lambda x: np.maximum(x, 0), "round": np.rint,
    "relu6": lambda x: np.clip(x, 0, 6), "sigmoid": special.expit, "sign": np.sign, "silu": lambda x: x * special.expit(x),
    "sin": np.sin, "sinh": np.sinh, "softplus": lambda x: np.logaddexp(x, 0), "softsign": lambda x: x / (1 + np.abs(x)),
    "sqrt": np.sqrt, "square": np.square, "tan": np.tan, "tanh": np.tanh,
}  # fmt: skip
BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "maximum": np.maximum, "minimum": np.minimum, "pow": np.power,
    "floor_div": np.floor_divide, "mod": np.mod, "equal": np.equal, "not_equal": np.not_equal, "less": np.less,
    "less_equal": np.less_equal, "greater": np.greater, "greater_equal": np.greater_equal,
    "logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor,
    "real_div": np.true_divide,
}  # fmt: skip
for _name, _function in UNARY.items():
    OPERATIONS[_name] = lambda p, function=_function: function(p["x"])
for _name, _function in BINARY.items():
    OPERATIONS[_name] = lambda p, function=_function: function(p["x"], p["y"])


@operation()
def cast(p):
    return truncated(p["x"], TYPES[p.text("dtype")])


def truncated(x, kind):
    """`x` as the numpy type `kind`; floats lose their fraction on the way to integers."""
    if kind == np.bool_:
        return x != 0
    return np.trunc(x).astype(np.int64).astype(kind) if is_float(x) and np.issubdtype(kind, np.integer) else x.astype(kind)


@operation()
def clip(p):
    return np.clip(p["x"], p.number("alpha"), p.number("beta"))


@operation()
def inverse(p):
    return 1 / (p["x"] + p.number("epsilon", 1e-4))


@operation()
def log(p):
    return np.log(p["x"] + p.number("epsilon", 1e-45))


@operation()
def rsqrt(p):
    return 1 / np.sqrt(p["x"] + p.number("epsilon", 1e-12))


@operation()
def threshold(p):
    return np.maximum(p["x"], p.number("alpha"))


@operation()
def select(p):
    return np.where(p["cond"], p["a"], p["b"])


@operation()
def clamped_relu(p):
    x = p["x"]
    return np.minimum(p.number("beta"), np.where(x >= 0, x, p.number("alpha") * x))


@operation()
def elu(p):
    return np.where(p["x"] > 0, p["x"], p.number("alpha") * np.expm1(np.minimum(p["x"], 0)))


@operation()
def gelu(p):
    x, mode = p["x"], p.text("mode", "EXACT")
    if mode == "TANH_APPROXIMATION":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    if mode == "SIGMOID_APPROXIMATION":
        return x * special.expit(1.702 * x)
    return 0.5 * x * (1 + special.erf(x / np.sqrt(2)))


@operation()
def leaky_relu(p):
    return np.where(p["x"] >= 0, p["x"], p.number("alpha") * p["x"])


@operation()
def linear_activation(p):
    return p.number("alpha") * p["x"] + p.number("beta")


def per_channel(values, rank):
    return np.reshape(values, [1, -1] + [1] * (rank - 2))


@operation()
def prelu(p):
    return np.where(p["x"] >= 0, p["x"], per_channel(p["alpha"], p["x"].ndim) * p["x"])


@operation()
def scaled_tanh(p):
    return p.number("alpha") * np.tanh(p.number("beta") * p["x"])


@operation()
def sigmoid_hard(p):
    return np.clip(p.number("alpha") * p["x"] + p.number("beta"), 0, 1)


@operation()
def softplus_parametric(p):
    rank = p["x"].ndim
    return per_channel(p["alpha"], rank) * np.logaddexp(per_channel(p["beta"], rank) * p["x"], 0)


@operation()
def thresholded_relu(p):
    return np.where(p["x"] >= p.number("alpha"), p["x"], 0)


@operation()
def softmax(p):
    return special.softmax(p["x"], axis=p.int("axis", -1))


# Reductions.


def reduction(function):
    def run(p):
        axes = p.ints("axes")
        return function(p["x"], axis=None if axes is None else tuple(axes), keepdims=p.flag("keep_dims"))

    return run


for _name, _function in {
    "reduce_sum": np.sum, "reduce_mean": np.mean, "reduce_max": np.max, "reduce_min": np.min, "reduce_prod": np.prod,
    "reduce_l1_norm": lambda x, **k: np.sum(np.abs(x), **k), "reduce_l2_norm": lambda x, **k: np.sqrt(np.sum(x * x, **k)),
    "reduce_log_sum": lambda x, **k: np.log(np.sum(x, **k)), "reduce_log_sum_exp": special.logsumexp,
    "reduce_sum_square": lambda x, **k: np.sum(x * x, **k),
}.items():  # fmt: skip
    OPERATIONS[_name] = reduction(_function)


def position(function):
    def run(p):
        axis = p.int("axis", -1)
        found = function(p["x"], axis=axis)
        return np.expand_dims(found, axis) if p.flag("keep_dims") else found

    return run


OPERATIONS["reduce_argmax"], OPERATIONS["reduce_argmin"] = position(np.argmax), position(np.argmin)


@operation()
def cumsum(p):
    axis, x = p.int("axis", 0), p["x"]
    if p.flag("reverse"):
        x = np.flip(x, axis)
    total = np.cumsum(x, axis=axis, dtype=x.dtype)
    if p.flag("exclusive"):
        total = total - x
    return np.flip(total, axis) if p.flag("reverse") else total


# Products.


@operation()
def matmul(p):
    x, y = p["x"], p["y"]
    x = np.swapaxes(x, -1, -2) if p.flag("transpose_x") and x.ndim > 1 else x
    y = np.swapaxes(y, -1, -2) if p.flag("transpose_y") and y.ndim > 1 else y
    return np.matmul(x, y)


@operation()
def linear(p):
    out = np.matmul(p["x"], p["weight"].T)
    return out if p.get("bias") is None else out + p["bias"]


@operation()
def einsum(p):
    return np.einsum(p.text("equation"), *p["values"])


@operation()
def scaled_dot_product_attention(p):
    scores = np.matmul(p["query"], np.swapaxes(p["key"], -1, -2)) / np.sqrt(p["query"].shape[-1])
    mask = p.get("attn_mask")
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == np.bool_ else scores + mask
    return np.matmul(special.softmax(scores, axis=-1), p["value"])


# Convolution and pooling.

CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONVOLVE_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def paddings(p, sizes, kernel, strides):
    """[(before, after)] for each spatial dimension; `kernel` counts dilation."""
    kind = p.text("pad_type", "valid")
    if kind == "valid":
        return [(0, 0)] * len(sizes)
    if kind == "custom":
        pad = p.ints("pad", [0] * 2 * len(sizes))
        return list(zip(pad[::2], pad[1::2], strict=True))
    totals = [max((-(-size // s) - 1) * s + k - size, 0) for size, k, s in zip(sizes, kernel, strides, strict=True)]
    if kind == "same":
        return [(total // 2, total - total // 2) for total in totals]
    return [(total - total // 2, total // 2) for total in totals]


def padded(x, pads, value=0):
    return np.pad(x, [(0, 0)] * (x.ndim - len(pads)) + list(pads), constant_values=value)


@operation()
def conv(p):
    x, weight = p["x"], p["weight"]
    rank = x.ndim - 2
    strides, dilations = p.ints("strides", [1] * rank), p.ints("dilations", [1] * rank)
    kernel = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    x = padded(x, paddings(p, x.shape[2:], kernel, strides))
    bias = None if p.get("bias") is None else tensor(p["bias"])
    out = CONVOLVE[rank](
        tensor(x), tensor(weight), bias, stride=strides, dilation=dilations, groups=p.int("groups", 1)
    )
    return out.numpy()


@operation()
def conv_transpose(p):
    x, weight = p["x"], p["weight"]
    rank = x.ndim - 2
    strides, dilations = p.ints("strides", [1] * rank), p.ints("dilations", [1] * rank)
    kernel = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    full = CONVOLVE_TRANSPOSE[rank](
        tensor(x), tensor(weight), stride=strides, dilation=dilations, groups=p.int("groups", 1)
    ).numpy()
    wanted = p.ints("output_shape")
    if p.text("pad_type", "valid") == "same":
        sizes = wanted[2:] if wanted else [size * stride for size, stride in zip(x.shape[2:], strides, strict=True)]
    else:
        crops = paddings(p, x.shape[2:], kernel, strides)
        sizes = wanted[2:] if wanted else [f - b - a for f, (b, a) in zip(full.shape[2:], crops, strict=True)]
    for axis, size in enumerate(sizes, start=2):
        if p.text("pad_type", "valid") == "same":
            before = max(full.shape[axis] - size, 0) // 2
        else:
            before = crops[axis - 2][0]
        full = np.take(padded(full, [(0, max(before + size - full.shape[axis], 0)) if a == axis else (0, 0)
                                     for a in range(full.ndim)]), range(before, before + size), axis)  # fmt: skip
    return full if p.get("bias") is None else full + per_channel(p["bias"], x.ndim)


def windows(p, fill):
    """(all pooling windows [..., out..., kernel...], how many of each window's elements are in the padded input)."""
    x = p["x"]
    rank = x.ndim - 2
    kernel = p.ints("kernel_sizes")
    strides = p.ints("strides", [1] * rank)
    pads = paddings(p, x.shape[2:], kernel, strides)
    ones = padded(padded(np.ones(x.shape[2:]), pads, 1), [(0, 0)] * rank)
    inside = padded(np.ones(x.shape[2:]), pads)
    x = padded(x, pads, fill)
    extra = []
    for size, k, s, (before, after) in zip(x.shape[2:], kernel, strides, pads, strict=True):
        count = (size - k) // s + 1
        if p.flag("ceil_mode"):
            count = -(-(size - k) // s) + 1
            if (count - 1) * s >= size - after and before + after > 0:
                count -= 1
        extra.append((0, max((count - 1) * s + k - size, 0)))
    x, ones, inside = padded(x, extra, fill), padded(ones, extra), padded(inside, extra)

    def view(array):
        axes = tuple(range(array.ndim - rank, array.ndim))
        found = np.lib.stride_tricks.sliding_window_view(array, kernel, axes)
        steps = [slice(None)] * (array.ndim - rank) + [slice(None, None, s) for s in strides]
        return found[tuple(steps)]

    axes = tuple(range(-rank, 0))
    return view(x), view(ones).sum(axis=axes), view(inside).sum(axis=axes), axes


@operation()
def avg_pool(p):
    values, counts, inside, axes = windows(p, 0)
    return values.sum(axis=axes) / (inside if p.flag("exclude_padding_from_average") else counts)


@operation()
def max_pool(p):
    values, _, _, axes = windows(p, -np.inf)
    return values.max(axis=axes)


@operation()
def l2_pool(p):
    values, _, _, axes = windows(p, 0)
    return np.sqrt(np.square(values).sum(axis=axes))


# Normalization.


@operation()
def batch_norm(p):
    rank = p["x"].ndim
    scale = 1 / np.sqrt(p["variance"] + p.number("epsilon", 1e-5))
    out = (p["x"] - per_channel(p["mean"], rank)) * per_channel(scale, rank)
    return affine_by(out, p, lambda values: per_channel(values, rank))


def affine_by(x, p, shaped):
    if p.get("gamma") is not None:
        x = x * shaped(p["gamma"])
    return x if p.get("beta") is None else x + shaped(p["beta"])


def normalized(x, axes, epsilon):
    return (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + epsilon)


@operation()
def instance_norm(p):
    x = p["x"]
    out = normalized(x, tuple(range(2, x.ndim)), p.number("epsilon", 1e-5))
    return affine_by(out, p, lambda values: per_channel(values, x.ndim))


@operation()
def layer_norm(p):
    x = p["x"]
    axes = sorted(axis % x.ndim for axis in p.ints("axes", range(x.ndim)))
    shape = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    out = normalized(x, tuple(axes), p.number("epsilon", 1e-5))
    return affine_by(out, p, lambda values: np.reshape(values, shape))


@operation()
def l2_norm(p):
    return p["x"] / np.sqrt(np.square(p["x"]).sum(axis=(-3, -2, -1), keepdims=True) + p.number("epsilon", 1e-6))


@operation()
def local_response_norm(p):
    return F.local_response_norm(
        tensor(p["x"]), p.int("size"), p.number("alpha", 1e-4), p.number("beta", 0.75), p.number("k", 1.0)
    ).numpy()


# Shapes.


@operation()
def reshape(p):
    x = p["x"]
    sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(p.ints("shape"))]
    return x.reshape(sizes)


@operation()
def reshape_like(p):
    shape = []
    for reference, begin, end, mask in zip(p["ref_tensors"], p["begins"], p["ends"], p["end_masks"], strict=True):
        shape += reference.shape[int(begin) :] if mask else reference.shape[int(begin) : int(end)]
    return p["x"].reshape(shape)


@operation()
def expand_dims(p):
    x, axes = p["x"], p.ints("axes")
    return np.expand_dims(x, tuple(axes))


@operation()
def squeeze(p):
    x, axes = p["x"], p.ints("axes")
    if axes is None:
        return x.squeeze()
    return x.squeeze(tuple(axis for axis in axes if x.shape[axis] == 1))


@operation()
def transpose(p):
    return p["x"].transpose(p.ints("perm"))


@operation()
def flatten2d(p):
    return p["x"].reshape(int(np.prod(p["x"].shape[: p.int("axis", 1)])), -1)


@operation()
def shape(p):
    return np.array(p["x"].shape, np.int32)


@operation()
def concat(p):
    if not p.flag("interleave"):
        return np.concatenate([np.atleast_1d(value) for value in p["values"]], axis=p.int("axis"))
    axis = p.int("axis") % p["values"][0].ndim
    out = np.stack(p["values"], axis=axis + 1)
    return out.reshape([size * (len(p["values"]) if a == axis else 1) for a, size in enumerate(p["values"][0].shape)])


@operation()
def stack(p):
    return np.stack(p["values"], axis=p.int("axis"))


@operation()
def split(p):
    axis, sizes = p.int("axis"), p.ints("split_sizes")
    if sizes is None:
        count = p.int("num_splits")
        sizes = [p["x"].shape[axis] // count] * count
    return tuple(np.split(p["x"], np.cumsum(sizes)[:-1], axis=axis))


@operation()
def tile(p):
    return np.tile(p["x"], p.ints("reps"))


@operation()
def pad(p):
    x, pads = p["x"], p.ints("pad")
    pairs = list(zip(pads[::2], pads[1::2], strict=True))
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    mode = p.text("mode", "constant")
    if mode == "constant":
        return np.pad(x, pairs, constant_values=p.number("constant_val", 0))
    return np.pad(x, pairs, mode="edge" if mode == "replicate" else "reflect")


@operation()
def reverse(p):
    return np.flip(p["x"], p.ints("axes"))


@operation()
def reverse_sequence(p):
    out = p["x"].copy()
    batch, sequence = p.int("batch_axis", 0), p.int("seq_axis", 0)
    for index, length in enumerate(p.ints("lengths")):
        at = [slice(None)] * out.ndim
        at[batch] = slice(index, index + 1)
        at[sequence] = slice(0, length)
        out[tuple(at)] = np.flip(p["x"][tuple(at)], sequence)
    return out


def slices(p, rank):
    begin, end, stride = p.ints("begin"), p.ints("end"), p.ints("stride", [1] * rank)
    masks = [
        [False] * rank if p.get(name) is None else [bool(m) for m in np.asarray(p[name]).reshape(-1)]
        for name in ("begin_mask", "end_mask", "squeeze_mask")
    ]
    found = []
    for axis in range(rank):
        begin_mask, end_mask, squeezed = (mask[axis] for mask in masks)
        if squeezed:
            found.append(begin[axis])
        else:
            found.append(slice(None if begin_mask else begin[axis], None if end_mask else end[axis], stride[axis]))
    return tuple(found)


@operation()
def slice_by_index(p):
    return p["x"][slices(p, p["x"].ndim)]


@operation()
def slice_update(p):
    out = p["x"].copy()
    at = slices(p, out.ndim)
    out[at] = p["update"].reshape(out[at].shape)
    return out


@operation()
def slice_by_size(p):
    x = p["x"]
    found = []
    for axis, (begin, size) in enumerate(zip(p.ints("begin"), p.ints("size"), strict=True)):
        begin %= x.shape[axis]
        found.append(slice(begin, None if size == -1 else begin + size))
    return x[tuple(found)]


@operation()
def sliding_windows(p):
    axis = p.int("axis") % p["x"].ndim
    found = np.lib.stride_tricks.sliding_window_view(p["x"], p.int("size"), axis)
    found = np.moveaxis(found, -1, axis + 1)
    return found[(slice(None),) * axis + (slice(None, None, p.int("stride", 1)),)]


@operation()
def band_part(p):
    rows, columns = np.indices(p["x"].shape[-2:])
    lower, upper = p.int("lower", -1), p.int("upper", -1)
    kept = ((lower < 0) | (rows - columns <= lower)) & ((upper < 0) | (columns - rows <= upper))
    return np.where(kept, p["x"], 0)


@operation()
def depth_to_space(p):
    b, (n, c, h, w) = p.int("block_size"), p["x"].shape
    return p["x"].reshape(n, b, b, c // b // b, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, c // b // b, h * b, w * b)


@operation()
def space_to_depth(p):
    b, (n, c, h, w) = p.int("block_size"), p["x"].shape
    return p["x"].reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


@operation()
def pixel_shuffle(p):
    return F.pixel_shuffle(tensor(p["x"]), p.int("upscale_factor")).numpy()


@operation()
def pixel_unshuffle(p):
    return F.pixel_unshuffle(tensor(p["x"]), p.int("downscale_factor")).numpy()


@operation()
def space_to_batch(p):
    (bh, bw), pads = p.ints("block_shape"), p["paddings"]
    x = padded(p["x"], [tuple(int(value) for value in pair) for pair in pads])
    n, c, h, w = x.shape
    return x.reshape(n, c, h // bh, bh, w // bw, bw).transpose(3, 5, 0, 1, 2, 4).reshape(-1, c, h // bh, w // bw)


@operation()
def batch_to_space(p):
    (bh, bw), crops = p.ints("block_shape"), p["crops"].astype(int)
    n, c, h, w = p["x"].shape
    out = p["x"].reshape(bh, bw, n // bh // bw, c, h, w).transpose(2, 3, 4, 0, 5, 1).reshape(-1, c, h * bh, w * bw)
    return out[:, :, crops[0][0] : h * bh - crops[0][1], crops[1][0] : w * bw - crops[1][1]]


@operation()
def crop(p):
    (top, bottom), (left, right) = p.ints("crop_height"), p.ints("crop_width")
    height, width = p["x"].shape[-2:]
    return p["x"][..., top : height - bottom, left : width - right]


@operation()
def fill(p):
    return np.full(p.ints("shape"), p.number("value", 0.0))


@operation()
def fill_like(p):
    return np.full(p["ref_tensor"].shape, p.number("value", 0.0))


@operation()
def range_1d(p):
    return np.arange(p.number("start"), p.number("end"), p.number("step"))


@operation()
def one_hot(p):
    size, axis = p.int("one_hot_vector_size"), p.int("axis", -1)
    hot = np.asarray(p["indices"])[..., None] == np.arange(size)
    return np.moveaxis(np.where(hot, p.number("on_value", 1), p.number("off_value", 0)), -1, axis)


@operation()
def non_zero(p):
    return np.argwhere(p["x"])


# Indexing and ordering.


@operation()
def gather(p):
    x, indices, axis, batch = p["x"], p["indices"], p.int("axis", 0) % max(p["x"].ndim, 1), p.int("batch_dims", 0)
    if batch == 0:
        return np.take(x, indices, axis)
    parts = [np.take(x[at], indices[at], axis - batch) for at in np.ndindex(*x.shape[:batch])]
    return np.stack(parts).reshape(*x.shape[:batch], *parts[0].shape)


@operation()
def gather_along_axis(p):
    return np.take_along_axis(p["x"], p["indices"].astype(np.int64), p.int("axis", 0))


@operation()
def gather_nd(p):
    x, indices, batch = p["x"], p["indices"], p.int("batch_dims", 0)
    if batch == 0:
        return x[tuple(np.moveaxis(indices, -1, 0))]
    parts = [x[at][tuple(np.moveaxis(indices[at], -1, 0))] for at in np.ndindex(*x.shape[:batch])]
    return np.stack(parts).reshape(*x.shape[:batch], *parts[0].shape)


COMBINE = {
    "update": lambda old, new: new, "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "max": np.maximum, "min": np.minimum,
}  # fmt: skip


def scattered(data, places, mode):
    """`data` with each (index, update) of `places` combined in, one after the other."""
    out = data.copy()
    for at, update in places:
        out[at] = COMBINE[mode](out[at], update)
    return out


@operation()
def scatter(p):
    axis = p.int("axis", 0) % p["data"].ndim
    before = (slice(None),) * axis
    updates = p["updates"]
    places = ((before + (int(index),), updates[before + (i,)]) for i, index in enumerate(p["indices"]))
    return scattered(p["data"], places, p.text("mode", "add"))


@operation()
def scatter_along_axis(p):
    axis, indices = p.int("axis", 0) % p["data"].ndim, p["indices"]
    places = (
        (at[:axis] + (int(indices[at]),) + at[axis + 1 :], p["updates"][at]) for at in np.ndindex(*indices.shape)
    )
    return scattered(p["data"], places, p.text("mode", "add"))


@operation()
def scatter_nd(p):
    indices = p["indices"]
    places = ((tuple(int(i) for i in indices[at]), p["updates"][at]) for at in np.ndindex(*indices.shape[:-1]))
    return scattered(p["data"], places, p.text("mode", "add"))


def order(x, axis, ascending):
    return np.argsort(x if ascending else -x, axis=axis, kind="stable")


@operation()
def argsort(p):
    return order(p["x"], p.int("axis", -1), p.flag("ascending"))


@operation()
def topk(p):
    x, axis = p["x"], p.int("axis", -1)
    count = p.int("k", 1)
    indices = np.take(order(x, axis, p.flag("ascending")), range(x.shape[axis] if count == -1 else count), axis)
    if not p.flag("sort", True):
        indices = np.sort(indices, axis)
    values = np.take_along_axis(x, indices, axis)
    return (values, indices) if p.flag("return_indices", True) else values


@operation()
def non_maximum_suppression(p):
    chosen = [suppress(boxes, scores, p) for boxes, scores in zip(p["boxes"], p["scores"], strict=True)]
    return tuple(np.stack(parts) for parts in zip(*chosen, strict=True))


def suppress(boxes, scores, p):
    limit, per_class = p.int("max_boxes"), p.flag("per_class_suppression")
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    low, high = centre - half, centre + half
    best, kind = scores.max(axis=1), scores.argmax(axis=1)
    kept = []
    for index in np.argsort(-best, kind="stable"):
        if len(kept) == limit or best[index] <= p.number("score_threshold"):
            break
        overlaps = False
        for other in kept:
            if per_class and kind[other] != kind[index]:
                continue
            sides = np.maximum(np.minimum(high[index], high[other]) - np.maximum(low[index], low[other]), 0)
            shared = sides.prod()
            union = boxes[index, 2:].prod() + boxes[other, 2:].prod() - shared
            overlaps |= bool(shared > p.number("iou_threshold") * union)
        if not overlaps:
            kept.append(int(index))
    padding = limit - len(kept)
    rows = [(0, padding), (0, 0)]
    indices = np.pad(np.array(kept, np.int32), (0, padding), constant_values=-1)
    return np.pad(boxes[kept], rows), np.pad(scores[kept], rows), indices, np.int32(len(kept))


# Resizing. A grid says, for every output position along one axis, where in the input to look.


def grid(size, count, mode):
    i = np.arange(count, dtype=np.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if count == 1:
            return np.array([(size - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0])
        points = i * (size - 1) / (count - 1)
    elif mode == "DEFAULT":
        points = i * size / count
    elif mode == "OFFSET_CORNERS":
        points = (i + 0.5) * max(1, size - 1) / count
    else:
        points = (i + 0.5) * size / count - 0.5
    return np.clip(points, 0, size - 1)


def interpolated(x, axis, points):
    low = np.floor(points).astype(int)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    weight = (points - low).reshape([-1 if a == axis % x.ndim else 1 for a in range(x.ndim)])
    return np.take(x, low, axis) * (1 - weight) + np.take(x, high, axis) * weight


def nearest(x, axis, points):
    return np.take(x, np.minimum(np.floor(points + 1e-9).astype(int), x.shape[axis] - 1), axis)


def resized(x, sizes, mode, linear=True, offset=0.0):
    """`x` with its last axes resized; the nearest pixel is the floor of a grid point plus `offset`."""
    for axis, size in zip(range(-len(sizes), 0), sizes, strict=True):
        points = grid(x.shape[axis], size, mode)
        x = interpolated(x, axis, points) if linear else nearest(x, axis, points + offset)
    return x


def scaled_sizes(p):
    factors = [p.number("scale_factor_height", 1), p.number("scale_factor_width", 1)]
    return [int(np.floor(size * float(factor))) for size, factor in zip(p["x"].shape[-2:], factors, strict=True)]


@operation()
def upsample_nearest_neighbor(p):
    return resized(p["x"], scaled_sizes(p), "DEFAULT", linear=False)


@operation()
def resize_nearest_neighbor(p):
    return resized(p["x"], [p.int("target_size_height"), p.int("target_size_width")], "DEFAULT", linear=False)


@operation()
def upsample_bilinear(p):
    corners = p.flag("align_corners", True)
    half = p.flag("half_pixel_centers", not corners)
    mode = "STRICT_ALIGN_CORNERS" if corners else "UNALIGN_CORNERS" if half else "DEFAULT"
    return resized(p["x"], scaled_sizes(p), mode)


@operation()
def resize_bilinear(p):
    sizes = [p.int("target_size_height", 1), p.int("target_size_width", 1)]
    return resized(p["x"], sizes, p.text("sampling_mode", "DEFAULT"))


@operation()
def resize(p):
    x, count = p["x"], p.int("resized_dims")
    wanted = p.ints("shape")[-count:]
    sizes = [size or old for size, old in zip(wanted, x.shape[-count:], strict=True)]
    linear, mode = p.text("interpolation_mode", "LINEAR") == "LINEAR", p.text("sampling_mode", "DEFAULT")
    # As TensorFlow's ResizeNearestNeighbor with half_pixel_centers, which coremltools converts to it.
    if not linear and mode == "DEFAULT":
        mode = "UNALIGN_CORNERS"
    return resized(x, sizes, mode, linear, offset=0.5)


@operation()
def crop_resize(p):
    x, height, width = p["x"], p.int("target_height", 1), p.int("target_width", 1)
    if "boxes" in p:
        boxes, images = p["boxes"], p.ints("box_indices", range(len(p["boxes"])))
        jobs = [(box, [image]) for box, image in zip(boxes, images, strict=True)]
    else:
        roi = p["roi"].reshape(len(p["roi"]), -1)
        jobs = [(r[-4:], [int(r[0])] if len(r) == 5 else range(len(x))) for r in roi]
    crops = [[crop_one(p, x[image], box, height, width) for image in images] for box, images in jobs]
    out = np.stack([np.stack(row) for row in crops])
    return out[:, 0] if "boxes" in p else out


def crop_one(p, image, box, height, width):
    mode = p.text("box_coordinate_mode", "CORNERS_HEIGHT_FIRST")
    a, b, c, d = (float(value) for value in box)
    if mode.endswith("WIDTH_FIRST"):
        a, b, c, d = b, a, d, c
    if mode.startswith("CENTER"):
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    scale = p.number("spatial_scale", 1.0)
    top, left, bottom, right = (scale * value for value in (a, b, c, d))
    if p.flag("normalized_coordinates"):
        top, bottom = top * (image.shape[1] - 1), bottom * (image.shape[1] - 1)
        left, right = left * (image.shape[2] - 1), right * (image.shape[2] - 1)
    rows = box_grid(top, bottom, height, p.text("sampling_mode", "DEFAULT"))
    columns = box_grid(left, right, width, p.text("sampling_mode", "DEFAULT"))
    value = p.number("pad_value")
    if value is None:
        rows, columns = np.clip(rows, 0, image.shape[1] - 1), np.clip(columns, 0, image.shape[2] - 1)
        return interpolated(interpolated(image, 1, rows), 2, columns)
    inside = ((rows >= 0) & (rows <= image.shape[1] - 1))[:, None] & (columns >= 0) & (columns <= image.shape[2] - 1)
    rows, columns = np.clip(rows, 0, image.shape[1] - 1), np.clip(columns, 0, image.shape[2] - 1)
    return np.where(inside, interpolated(interpolated(image, 1, rows), 2, columns), value)


def box_grid(start, end, count, mode):
    i = np.arange(count, dtype=np.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if count == 1:
            return np.array([(start + end) / 2 if mode == "ALIGN_CORNERS" else start])
        return start + i * (end - start) / (count - 1)
    if mode == "DEFAULT":
        return start + i * (end - start + 1) / count
    if mode == "OFFSET_CORNERS":
        return start + (i + 0.5) * (end - start) / count
    return start + (i + 0.5) * (end - start + 1) / count - 0.5


@operation()
def affine(p):
    x, rows, columns = p["x"], p.int("output_height"), p.int("output_width")
    if p.flag("align_corners"):
        across, down = np.linspace(-1, 1, columns), np.linspace(-1, 1, rows)
    else:
        across, down = ((2 * np.arange(count) + 1) / count - 1 for count in (columns, rows))
    matrices = np.broadcast_to(p["transform_matrix"], (len(x), 6)).reshape(-1, 2, 3)
    places = np.stack([*np.meshgrid(across, down), np.ones((rows, columns))], axis=-1)
    coordinates = np.einsum("nij,hwj->nhwi", matrices, places)
    return sampled(x, coordinates, p, "normalized_minus_one_to_one", p.flag("align_corners"))


@operation()
def resample(p):
    return sampled(p["x"], p["coordinates"], p, p.text("coordinates_mode"), p.flag("align_corners"))


def sampled(x, coordinates, p, mode, corners):
    """`x` [N, C, H, W] at `coordinates` [N, h, w, 2], each (across, down)."""
    size = np.array([x.shape[3], x.shape[2]], np.float64)
    at = coordinates.astype(np.float64)
    if mode != "unnormalized":
        at = (at + 1) / 2 if mode == "normalized_minus_one_to_one" else at
        at = at * (size - 1) if corners else at * size - 0.5
    padding = p.text("padding_mode")
    if padding == "border":
        at = np.clip(at, 0, size - 1)
    elif padding == "reflection":
        at = mirrored(at, size - 1)
    elif padding == "symmetric":
        at = np.clip(mirrored(at + 0.5, size) - 0.5, 0, size - 1)
    value = p.number("padding_value", 0.0) if padding == "constant" else 0.0

    def pixels(across, down):
        inside = (across >= 0) & (across < x.shape[3]) & (down >= 0) & (down < x.shape[2])
        found = x[np.arange(len(x))[:, None, None], :, np.clip(down, 0, x.shape[2] - 1), np.clip(across, 0, x.shape[3] - 1)]
        return np.moveaxis(np.where(inside[..., None], found, value), -1, 1)

    if p.text("sampling_mode", "bilinear") == "nearest":
        across, down = np.moveaxis(np.rint(at).astype(int), -1, 0)
        return pixels(across, down)
    low = np.floor(at).astype(int)
    weight = at - low
    total = 0.0
    for right, below in itertools.product((0, 1), repeat=2):
        share = (weight[..., 0] if right else 1 - weight[..., 0]) * (weight[..., 1] if below else 1 - weight[..., 1])
        total = total + share[:, None] * pixels(low[..., 0] + right, low[..., 1] + below)
    return total


def mirrored(at, period):
    period = np.maximum(period, 1e-9)
    at = np.abs(at) % (2 * period)
    return np.minimum(at, 2 * period - at)


# Recurrent.

GATES = {
    "sigmoid": special.expit, "tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "linear": lambda x: x,
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1), "sigmoid_hard": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "scaled_tanh": lambda x: 1.7159 * np.tanh(2 / 3 * x),
}  # fmt: skip


def sequence_result(p, steps):
    # Steps stay in the order in which they were computed, also in the direction "reverse": so coremltools' own tests
    # have it.
    return np.stack(steps if p.flag("output_sequence") else steps[-1:])


@operation()
def rnn(p):
    h, steps, reverse = p["initial_h"], [], p.text("direction", "forward") == "reverse"
    for x in p["x"][::-1] if reverse else p["x"]:
        total = x @ p["weight_ih"].T + h @ p["weight_hh"].T
        h = GATES[p.text("activation", "tanh")](total if p.get("bias") is None else total + p["bias"])
        steps.append(h)
    return sequence_result(p, steps), h


@operation()
def gru(p):
    size = p["weight_hh"].shape[1]
    zero = np.zeros(3 * size)
    bias = zero if p.get("bias") is None else p["bias"]
    input_bias = zero if p.get("input_bias") is None else p["input_bias"]
    gate, activation = GATES[p.text("recurrent_activation", "sigmoid")], GATES[p.text("activation", "tanh")]
    (hr, ho, hz), (br, bo, bz) = np.split(p["weight_hh"], 3), np.split(bias, 3)
    h, steps, reverse = p["initial_h"], [], p.text("direction", "forward") == "reverse"
    for x in p["x"][::-1] if reverse else p["x"]:
        ir, io, iz = np.split(x @ p["weight_ih"].T + input_bias, 3, axis=-1)
        r, z = gate(ir + h @ hr.T + br), gate(iz + h @ hz.T + bz)
        o = activation(io + (r * (h @ ho.T + bo) if p.flag("reset_after") else (r * h) @ ho.T + bo))
        h = (1 - z) * o + z * h
        steps.append(h)
    return sequence_result(p, steps), h


def lstm_pass(p, suffix, h, c, reverse):
    wi, wh = p[f"weight_ih{suffix}"], p[f"weight_hh{suffix}"]
    bias, peephole = p.get(f"bias{suffix}"), p.get(f"peephole{suffix}")
    pi, pf, po = (0, 0, 0) if peephole is None else np.split(peephole, 3)
    gate = GATES[p.text("recurrent_activation", "sigmoid")]
    cell, activation = GATES[p.text("cell_activation", "tanh")], GATES[p.text("activation", "tanh")]
    steps = []
    for x in p["x"][::-1] if reverse else p["x"]:
        total = x @ wi.T + h @ wh.T
        i, f, o, z = np.split(total if bias is None else total + bias, 4, axis=-1)
        i, f, z = gate(i + pi * c), gate(f + pf * c), cell(z)
        if p.get("clip") is not None:
            z = np.clip(z, -p.number("clip"), p.number("clip"))
        c = f * c + i * z
        h = gate(o + po * c) * activation(c)
        steps.append(h)
    return sequence_result(p, steps), h, c


@operation()
def lstm(p):
    direction = p.text("direction", "forward")
    rows = p["x"].shape[1]
    h, c = p["initial_h"][:rows], p["initial_c"][:rows]
    if direction != "bidirectional":
        return lstm_pass(p, "", h, c, direction == "reverse")
    size = p["weight_hh"].shape[1]
    ahead = lstm_pass(p, "", h[:, :size], c[:, :size], False)
    steps, *back = lstm_pass(p, "_back", h[:, size:], c[:, size:], True)
    # Of two directions, the results of one step of the input stand together, as in torch.
    back = (steps[::-1], *back)
    return tuple(np.concatenate(pair, axis=-1) for pair in zip(ahead, back, strict=True))


# Lists.


@operation()
def make_list(p):
    return [None] * p.int("init_length", 1)


@operation()
def list_write(p):
    items, index = list(p["ls"]), p.int("index")
    items += [None] * (index + 1 - len(items))
    items[index] = p["value"]
    return (items,)


@operation()
def list_read(p):
    return p["ls"][p.int("index")]


@operation()
def list_gather(p):
    return np.stack([p["ls"][index] for index in p.ints("indices")])


@operation()
def list_scatter(p):
    items = list(p["ls"])
    for index, value in zip(p.ints("indices"), p["value"], strict=True):
        items += [None] * (index + 1 - len(items))
        items[index] = value
    return (items,)


@operation()
def list_length(p):
    return np.int32(len(p["ls"]))


# Labels and compressed weights.


@operation()
def classify(p):
    probabilities = np.asarray(p["probabilities"]).reshape(-1)
    classes = [c if isinstance(c, str) else np.asarray(c).item() for c in flat_labels(p["classes"])]
    return classes[int(probabilities.argmax())], dict(zip(classes, probabilities.tolist(), strict=True))


def flat_labels(classes):
    return classes if isinstance(classes, list) else np.asarray(classes).reshape(-1)


@operation()
def quantize(p):
    kind = TYPES[p.text("output_dtype")]
    scale, zero = along(p, "scale"), 0 if p.get("zero_point") is None else along(p, "zero_point")
    limits = np.iinfo(kind)
    return np.clip(np.rint(p["input"] / scale) + zero, limits.min, limits.max).astype(kind)


@operation()
def dequantize(p):
    zero = 0 if p.get("zero_point") is None else along(p, "zero_point").astype(np.int64)
    return along(p, "scale") * (p["input"].astype(np.int64) - zero)


def along(p, name, data="input"):
    values = np.asarray(p[name])
    axis = p.int("axis", 0) % max(p[data].ndim, 1)
    return values if values.ndim == 0 else values.reshape([-1 if a == axis else 1 for a in range(p[data].ndim)])


@operation()
def constexpr_affine_dequantize(p):
    data = "quantized_data"
    return along(p, "scale", data) * (p[data].astype(np.float64) - along(p, "zero_point", data))


@operation()
def constexpr_cast(p):
    return p["source_val"].astype(TYPES[p.text("output_dtype")])


@operation()
def constexpr_lut_to_dense(p):
    if "shape" in p:
        lut, shape = p["lut"], p.ints("shape")
        width, count = int(np.log2(len(lut))), int(np.prod(shape))
        bits = np.unpackbits(p["indices"].astype(np.uint8), bitorder="little")[: count * width].reshape(count, width)
        return lut[(bits.astype(np.int64) << np.arange(width)).sum(axis=1)].reshape(shape)
    return looked_up(p["indices"], p["lut"], p.int("vector_axis"))


def looked_up(indices, lut, vector_axis):
    for axis in range(indices.ndim):
        lut = np.repeat(lut, indices.shape[axis] // lut.shape[axis], axis)
    vectors = np.take_along_axis(lut, indices[..., None, None].astype(np.int64), -2)[..., 0, :]
    if vector_axis is None:
        return vectors[..., 0]
    axis = vector_axis % indices.ndim
    out = np.moveaxis(vectors, -1, axis + 1)
    return out.reshape([size * (lut.shape[-1] if a == axis else 1) for a, size in enumerate(indices.shape)])


@operation()
def constexpr_sparse_to_dense(p):
    if "shape" in p:
        shape = p.ints("shape")
        mask = np.unpackbits(p["mask"].astype(np.uint8), bitorder="little")[: int(np.prod(shape))].reshape(shape)
    else:
        mask = p["mask"]
    return spread(mask, p["nonzero_data"])


def spread(mask, values):
    out = np.zeros(mask.shape, values.dtype)
    out[mask != 0] = values
    return out


@operation()
def constexpr_blockwise_shift_scale(p):
    return shifted(p["data"], p["scale"], p.get("offset"))


def shifted(data, scale, offset):
    def spread_out(blocks):
        for axis in range(data.ndim):
            blocks = np.repeat(blocks, data.shape[axis] // blocks.shape[axis], axis)
        return blocks.astype(np.float64)

    return spread_out(scale) * (data if offset is None else data.astype(np.float64) - spread_out(offset))


@operation()
def constexpr_lut_to_sparse(p):
    mask, axis = p["indices_mask"], p.int("vector_axis")
    dense = looked_up(spread(mask, p["indices_nonzero_data"]), p["lut"], axis)
    if axis is not None:
        mask = np.repeat(mask, p["lut"].shape[-1], axis)
    return mask, dense[mask != 0]


@operation()
def constexpr_sparse_blockwise_shift_scale(p):
    mask = p["data_mask"]
    return mask, shifted(spread(mask, p["nonzero_data"]), p["scale"], p.get("offset"))[mask != 0]
