#!/usr/bin/env python3
"""Write ONNX models of many kinds, as PyTorch's two exporters and converters of trees write them, for check_onnx.py.

    python3 scripts/onnx_kinds.py FOLDER [--only PART]
    python3 scripts/check_onnx.py --milwright target/release/milwright FOLDER

Speech, text, graphs, detectors, segmentation, OCR, video, trees; loops and branches that are known only when they run;
quantized forms of some. All weights are random. Beside each model, `NAME.0.npz` and `NAME.1.npz` are two feeds of different
sizes. Needs torch, torchvision, onnx, onnxruntime and numpy; scikit-learn, lightgbm, xgboost, skl2onnx and onnxmltools for trees.
"""

import argparse
import contextlib
import copy
import io
import logging
import math
import pathlib
import sys
import warnings

import numpy as np
import onnx
import torch
import torch.nn.functional as F
import torchvision
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from torch import nn

MAKERS = {}


def kind(function):
    MAKERS[function.__name__] = function
    return function


def floats(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed + len(shape)).standard_normal(shape).astype(np.float32))


def ids(high, *shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, high, shape))


def save_feeds(path, feeds):
    for i, feed in enumerate(feeds):
        np.savez(path.with_suffix(f".{i}.npz"), **{k: np.asarray(v) for k, v in feed.items()})


def export(path, module, feeds, outputs, dynamic=None, opset=17, dynamo=False, **more):
    """Writes a module. `feeds` are dictionaries of tensors; `dynamic` names the sizes of inputs by axis."""
    torch.manual_seed(0)
    module = module.eval()
    names = list(feeds[0])
    if dynamo:
        shapes = {n: {a: torch.export.Dim(s) for a, s in (dynamic or {}).get(n, {}).items()} for n in names}
        shared = {}
        for sizes in shapes.values():
            for axis, dim in sizes.items():
                sizes[axis] = shared.setdefault(dim.__name__, dim)
        program = torch.onnx.export(
            module, tuple(feeds[0].values()), input_names=names, output_names=outputs, opset_version=max(opset, 18),
            dynamo=True, dynamic_shapes=tuple(shapes.values()) if dynamic else None, verbose=False, **more,
        )  # fmt: skip
        program.save(str(path))
    else:
        torch.onnx.export(
            module, tuple(feeds[0].values()), str(path), input_names=names, output_names=outputs, opset_version=opset,
            dynamic_axes=dynamic, dynamo=False, **more,
        )  # fmt: skip
    save_feeds(path, feeds)


def both(folder, name, module, feeds, outputs, dynamic=None, opset=17):
    """With the older exporter and with the newer one."""
    export(folder / f"{name}.onnx", module, feeds, outputs, dynamic, opset)
    newer(folder / f"{name}-dynamo.onnx", module, feeds, outputs, dynamic, opset)


def newer(path, *arguments):
    """With the newer exporter, which does not know everything yet."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            export(path, *arguments, dynamo=True)
    except Exception as error:  # noqa: BLE001
        print(f"{path.stem}: not made: {type(error).__name__}", file=sys.stderr)


# Text


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class T5Attention(nn.Module):
    def __init__(self, width=64, heads=4, bidirectional=True, biased=False):
        super().__init__()
        self.heads, self.size, self.bidirectional = heads, width // heads, bidirectional
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.bias = nn.Embedding(32, heads) if biased else None

    def split(self, x):
        return x.view(x.shape[0], -1, self.heads, self.size).transpose(1, 2)

    def bucket(self, relative, buckets=32, most=128):
        found = 0
        if self.bidirectional:
            buckets //= 2
            found = found + (relative > 0).to(torch.long) * buckets
            relative = torch.abs(relative)
        else:
            relative = -torch.min(relative, torch.zeros_like(relative))
        exact = buckets // 2
        large = exact + (torch.log(relative.float() / exact) / math.log(most / exact) * (buckets - exact)).to(torch.long)
        large = torch.min(large, torch.full_like(large, buckets - 1))
        return found + torch.where(relative < exact, relative, large)

    def positions(self, queries, keys):
        at = torch.arange(keys - queries, keys)[:, None]
        return self.bias(self.bucket(torch.arange(keys)[None] - at)).permute(2, 0, 1)[None]

    def forward(self, x, mask, bias=None, source=None, past=None):
        q = self.split(self.q(x))
        k, v = self.split(self.k(x if source is None else source)), self.split(self.v(x if source is None else source))
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        scores = q @ k.transpose(2, 3)
        if bias is None:
            bias = self.positions(q.shape[2], k.shape[2]) if self.bias is not None else torch.zeros(1)
        weights = torch.softmax((scores + bias + mask).float(), -1)
        y = (weights @ v).transpose(1, 2).reshape(x.shape[0], -1, self.heads * self.size)
        return self.o(y), bias, (k, v)


class T5Block(nn.Module):
    def __init__(self, width=64, decoder=False, first=False):
        super().__init__()
        self.norms = nn.ModuleList(RmsNorm(width) for _ in range(3 if decoder else 2))
        self.own = T5Attention(width, bidirectional=not decoder, biased=first)
        self.cross = T5Attention(width) if decoder else None
        self.wi, self.gate, self.wo = nn.Linear(width, 128, False), nn.Linear(width, 128, False), nn.Linear(128, width, False)

    def forward(self, x, mask, bias, source=None, source_mask=None, past=None):
        y, bias, present = self.own(self.norms[0](x), mask, bias, None, past)
        x = x + y
        if self.cross is not None:
            x = x + self.cross(self.norms[1](x), source_mask, None, source)[0]
        h = self.norms[-1](x)
        return x + self.wo(F.gelu(self.gate(h), approximate="tanh") * self.wi(h)), bias, present


class T5Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(200, 64)
        self.blocks = nn.ModuleList(T5Block(first=i == 0) for i in range(2))
        self.norm = RmsNorm(64)

    def forward(self, input_ids, attention_mask):
        x, bias = self.words(input_ids), None
        mask = (1.0 - attention_mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        for block in self.blocks:
            x, bias, _ = block(x, mask, bias)
        return self.norm(x)


class T5Decoder(nn.Module):
    def __init__(self, with_past):
        super().__init__()
        self.with_past = with_past
        self.words = nn.Embedding(200, 64)
        self.blocks = nn.ModuleList(T5Block(decoder=True, first=i == 0) for i in range(2))
        self.norm = RmsNorm(64)

    def forward(self, input_ids, attention_mask, states, *past):
        x, bias, presents = self.words(input_ids), None, []
        cross = (1.0 - attention_mask[:, None, None, :].float()) * -1e9
        queries = input_ids.shape[1]
        keys = queries + past[0].shape[2] if self.with_past else queries
        at, to = torch.arange(keys - queries, keys)[:, None], torch.arange(keys)[None]
        mask = (to > at).float()[None, None] * -1e9
        for i, block in enumerate(self.blocks):
            pair = past[2 * i : 2 * i + 2] if self.with_past else None
            x, bias, present = block(x, mask, bias, states, cross, pair)
            presents += present
        return (self.norm(x) @ self.words.weight.T * 64**-0.5, *presents)


@kind
def t5_encoder(folder):
    def feed(batch, length):
        mask = torch.ones(batch, length, dtype=torch.long)
        mask[0, -2:] = 0
        return {"input_ids": ids(200, batch, length), "attention_mask": mask}

    sizes = {0: "batch", 1: "length"}
    feeds = [feed(2, 9), feed(3, 150)]
    both(folder, "t5_encoder", T5Encoder(), feeds, ["hidden"], {"input_ids": sizes, "attention_mask": sizes})
    quantized(folder / "t5_encoder.onnx")


def quantized(path, **more):
    target = path.with_name(path.stem + "-int8.onnx")
    quantization.quantize_dynamic(path, target, weight_type=quantization.QuantType.QInt8, **more)
    for i in range(2):
        target.with_suffix(f".{i}.npz").write_bytes(path.with_suffix(f".{i}.npz").read_bytes())


@kind
def t5_decoder(folder):
    """One file with both steps, chosen by an input, as Optimum merges them; also quantized."""
    torch.manual_seed(1)
    first = T5Decoder(with_past=False)
    later = T5Decoder(with_past=True)
    later.load_state_dict(first.state_dict())
    kv = [f"{n}.{i}.{k}" for i in range(2) for n, k in [("self", "key"), ("self", "value")]]
    pasts, presents = [f"past.{n}" for n in kv], [f"present.{n}" for n in kv]

    def feed(batch, source, past, length, use):
        made = {
            "input_ids": ids(200, batch, length),
            "attention_mask": torch.ones(batch, source, dtype=torch.long),
            "states": floats(batch, source, 64),
        }
        made |= {n: floats(batch, 4, past, 16, seed=i) for i, n in enumerate(pasts)}
        return made | {"use_cache_branch": torch.tensor([use])}

    feeds = [feed(2, 7, 5, 1, True), feed(3, 11, 0, 1, False)]
    dynamic = {"input_ids": {0: "batch", 1: "length"}, "attention_mask": {0: "batch", 1: "source"}, "states": {0: "batch", 1: "source"}}
    dynamic_past = dynamic | {n: {0: "batch", 2: "past"} for n in pasts}
    plain = [{k: v for k, v in f.items() if k in dynamic} for f in feeds]
    with_past = [{k: v for k, v in f.items() if k in dynamic_past} for f in [feeds[0], feed(3, 11, 40, 2, True)]]
    export(folder / "t5_decoder-first.onnx", first, plain, ["logits", *presents], dynamic | {n: {0: "batch", 2: "length"} for n in presents})
    export(folder / "t5_decoder-later.onnx", later, with_past, ["logits", *presents], dynamic_past | {n: {0: "batch", 2: "total"} for n in presents})
    a, b = (onnx.load(folder / f"t5_decoder-{n}.onnx") for n in ("first", "later"))
    shared = {t.name: t for m in (a, b) for t in m.graph.initializer if t.name.endswith("weight")}
    branches = []
    for model, prefix in ((b, "later"), (a, "first")):
        graph = copy.deepcopy(model.graph)
        names = {}
        for node in graph.node:
            node.name = f"{prefix}/{node.name}"
            for i, name in enumerate(node.output):
                names[name] = node.output[i] = f"{prefix}/{name}" if name else ""
        own = [t for t in graph.initializer if t.name not in shared]
        for tensor in own:
            names[tensor.name] = tensor.name = f"{prefix}/{tensor.name}"
        for node in graph.node:
            for i, name in enumerate(node.input):
                node.input[i] = names.get(name, name)
        outputs = [copy.deepcopy(o) for o in graph.output]
        for output in outputs:
            output.name = names[output.name]
        branches.append(helper.make_graph(list(graph.node), prefix, [], outputs, own))
    choose = helper.make_node("If", ["use_cache_branch"], ["logits", *presents], then_branch=branches[0], else_branch=branches[1])
    flag = helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1])
    outputs = [copy.deepcopy(o) for o in b.graph.output]
    graph = helper.make_graph([choose], "merged", [*b.graph.input, flag], outputs, list(shared.values()))
    path = folder / "t5_decoder-merged.onnx"
    onnx.save(helper.make_model(graph, opset_imports=a.opset_import, ir_version=8), path)
    save_feeds(path, feeds)
    quantized(folder / "t5_decoder-merged.onnx", extra_options={"EnableSubgraph": True})
    quantized(folder / "t5_decoder-later.onnx")


class Llama(nn.Module):
    """Rotary positions, grouped heads, SwiGLU, a cache."""

    def __init__(self, width=64, heads=4, shared=2):
        super().__init__()
        self.heads, self.shared, self.size = heads, shared, width // heads
        self.words = nn.Embedding(100, width)
        self.norms = nn.ModuleList(RmsNorm(width) for _ in range(3))
        self.q, self.o = nn.Linear(width, width, False), nn.Linear(width, width, False)
        self.k, self.v = (nn.Linear(width, shared * self.size, False) for _ in range(2))
        self.up, self.gate, self.down = nn.Linear(width, 160, False), nn.Linear(width, 160, False), nn.Linear(160, width, False)
        self.register_buffer("frequencies", 1 / 10000 ** (torch.arange(0, self.size, 2) / self.size))

    def turned(self, x, cos, sin):
        half = x.shape[-1] // 2
        return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin

    def forward(self, tokens, positions, past_key, past_value):
        x = self.words(tokens)
        batch, length = tokens.shape
        angles = positions[:, :, None].float() * self.frequencies
        angles = torch.cat([angles, angles], -1)[:, None]
        h = self.norms[0](x)
        q = self.q(h).view(batch, length, self.heads, self.size).transpose(1, 2)
        k = self.k(h).view(batch, length, self.shared, self.size).transpose(1, 2)
        v = self.v(h).view(batch, length, self.shared, self.size).transpose(1, 2)
        q, k = self.turned(q, angles.cos(), angles.sin()), self.turned(k, angles.cos(), angles.sin())
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
        total = k.shape[2]
        mask = torch.full((length, total), -1e9).triu(total - length + 1)
        repeat = self.heads // self.shared
        wide = lambda t: t[:, :, None].expand(batch, self.shared, repeat, total, self.size).reshape(batch, self.heads, total, self.size)
        y = F.scaled_dot_product_attention(q, wide(k), wide(v), mask)
        x = x + self.o(y.transpose(1, 2).reshape(batch, length, -1))
        h = self.norms[1](x)
        x = x + self.down(F.silu(self.gate(h)) * self.up(h))
        return self.norms[2](x) @ self.words.weight.T, k, v


@kind
def llama(folder):
    def feed(batch, length, past):
        positions = torch.arange(past, past + length)[None].repeat(batch, 1)
        return {"tokens": ids(100, batch, length), "positions": positions, "past_key": floats(batch, 2, past, 16), "past_value": floats(batch, 2, past, 16, seed=1)}

    sizes = {"tokens": {0: "batch", 1: "length"}, "positions": {0: "batch", 1: "length"}, "past_key": {0: "batch", 2: "past"}, "past_value": {0: "batch", 2: "past"}}
    both(folder, "llama", Llama(), [feed(2, 4, 3), feed(3, 2, 9)], ["logits", "key", "value"], sizes)


@kind
def experts(folder):
    """A mixture of experts that gathers the tokens of each."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.router = nn.Linear(32, 4)
            self.experts = nn.ModuleList(nn.Sequential(nn.Linear(32, 48), nn.GELU(), nn.Linear(48, 32)) for _ in range(4))

        def forward(self, x):
            weights, chosen = torch.topk(torch.softmax(self.router(x), -1), 2)
            weights = weights / weights.sum(-1, keepdim=True)
            y = torch.zeros_like(x)
            for i, expert in enumerate(self.experts):
                at, which = torch.where(chosen == i)
                y = y.index_add(0, at, expert(x[at]) * weights[at, which, None])
            return y

    export(folder / "experts.onnx", Net(), [{"x": floats(9, 32)}, {"x": floats(21, 32)}], ["y"], {"x": {0: "tokens"}})


# Speech


class Conformer(nn.Module):
    """Relative positions by shifting, GLU and depthwise convolution, a mask from lengths."""

    def __init__(self, width=48, heads=4):
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.sub = nn.Sequential(nn.Conv2d(1, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 16, 3, 2), nn.ReLU())
        self.into = nn.Linear(16 * 19, width)
        self.q, self.k, self.v, self.o, self.p = (nn.Linear(width, width) for _ in range(5))
        self.u, self.w = nn.Parameter(floats(heads, self.size)), nn.Parameter(floats(heads, self.size, seed=1))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.ff = nn.Sequential(nn.Linear(width, 96), nn.SiLU(), nn.Linear(96, width))
        self.point, self.deep, self.last = nn.Conv1d(width, 2 * width, 1), nn.Conv1d(width, width, 15, padding=7, groups=width), nn.Conv1d(width, width, 1)
        self.batch = nn.BatchNorm1d(width)

    def forward(self, features, lengths):
        x = self.sub(features[:, None])
        batch, _, time, _ = x.shape
        x = self.into(x.transpose(1, 2).reshape(batch, time, -1))
        lengths = torch.div(torch.div(lengths - 1, 2, rounding_mode="floor") - 1, 2, rounding_mode="floor")
        padded = torch.arange(time)[None] >= lengths[:, None]
        x = x + 0.5 * self.ff(self.norms[0](x))
        h = self.norms[1](x)
        steps = torch.arange(time - 1, -time, -1).float()[:, None]
        rates = torch.exp(torch.arange(0, h.shape[-1], 2).float() * -(math.log(10000.0) / h.shape[-1]))
        places = torch.stack([torch.sin(steps * rates), torch.cos(steps * rates)], -1).flatten(1)
        split = lambda t: t.view(t.shape[0], -1, self.heads, self.size)
        q, k, v, p = split(self.q(h)), split(self.k(h)).transpose(1, 2), split(self.v(h)).transpose(1, 2), split(self.p(places[None])).transpose(1, 2)
        content = (q + self.u).transpose(1, 2) @ k.transpose(2, 3)
        moved = (q + self.w).transpose(1, 2) @ p.transpose(2, 3)
        moved = F.pad(moved, (1, 0)).view(batch, self.heads, -1, time)[:, :, 1:].reshape(batch, self.heads, time, -1)[..., :time]
        scores = ((content + moved) * self.size**-0.5).masked_fill(padded[:, None, None], float("-inf"))
        y = torch.softmax(scores, -1).masked_fill(padded[:, None, None], 0.0) @ v
        x = x + self.o(y.transpose(1, 2).reshape(batch, time, -1))
        h = self.norms[2](x).transpose(1, 2)
        h = F.glu(self.point(h), 1).masked_fill(padded[:, None], 0.0)
        x = x + self.last(F.silu(self.batch(self.deep(h)))).transpose(1, 2)
        return self.norms[3](x), lengths


@kind
def conformer(folder):
    def feed(batch, time):
        lengths = torch.full((batch,), time)
        lengths[0] = time - 9
        return {"features": floats(batch, time, 80), "lengths": lengths}

    sizes = {"features": {0: "batch", 1: "time"}, "lengths": {0: "batch"}}
    both(folder, "conformer", Conformer(), [feed(2, 61), feed(3, 84)], ["hidden", "sizes"], sizes)
    quantized(folder / "conformer.onnx")


class Layer(nn.Module):
    """A transformer's layer, whose sizes all stay open."""

    def __init__(self, width, heads, inner):
        super().__init__()
        self.heads = heads
        self.qkv, self.o = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.ff = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, x, padded=None):
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        mask = None if padded is None else padded[:, None, None].float() * -1e9
        y = F.scaled_dot_product_attention(q, k, v, mask)
        x = self.norms[0](x + self.o(y.transpose(1, 2).flatten(2)))
        return self.norms[1](x + self.ff(x))


class Voice(nn.Module):
    """Text to speech: durations decide how many frames each letter gets; a flow; a vocoder."""

    def __init__(self, width=32):
        super().__init__()
        self.words = nn.Embedding(40, width)
        self.encoder = Layer(width, 4, 64)
        self.stats, self.durations = nn.Conv1d(width, 2 * width, 1), nn.Conv1d(width, 1, 3, padding=1)
        self.flow = nn.ModuleList(nn.utils.weight_norm(nn.Conv1d(width // 2, width, 5, padding=2 * d, dilation=d)) for d in (1, 2))
        self.ups = nn.ModuleList([nn.utils.weight_norm(nn.ConvTranspose1d(width, 16, 16, 8, 4)), nn.utils.weight_norm(nn.ConvTranspose1d(16, 8, 4, 2, 1))])
        self.blocks = nn.ModuleList([nn.Conv1d(16, 16, 3, padding=1), nn.Conv1d(8, 8, 7, padding=9, dilation=3)])
        self.post = nn.Conv1d(8, 1, 7, padding=3)

    def forward(self, tokens, lengths, scales):
        inside = (torch.arange(tokens.shape[1])[None] < lengths[:, None]).float()[:, None]
        x = self.encoder(self.words(tokens), inside[:, 0] == 0).transpose(1, 2) * inside
        mean, deviation = self.stats(x).chunk(2, 1)
        w = torch.ceil(torch.exp(self.durations(x)) * inside * scales[1])
        frames = torch.clamp_min(w.sum([1, 2]), 1).long()
        ends = torch.cumsum(w, -1)[:, 0]
        inner = (torch.arange(frames.max())[None] < frames[:, None]).float()[:, None]
        at = torch.arange(frames.max())[None, None].float()
        path = (at < ends[:, :, None]).float()
        path = path - F.pad(path, (0, 0, 1, 0))[:, :-1]
        mean, deviation = mean @ path, deviation @ path
        z = (mean + torch.randn_like(mean) * torch.exp(deviation * 0.1) * scales[0]) * inner
        for layer in self.flow:
            a, b = z.chunk(2, 1)
            shift, gate = layer(a).chunk(2, 1)
            z = torch.flip(torch.cat([a, (b - torch.tanh(shift) * torch.sigmoid(gate)) * inner], 1), [1])
        for up, block in zip(self.ups, self.blocks):
            z = up(F.leaky_relu(z, 0.1))
            z = z + block(F.leaky_relu(z, 0.1))
        return torch.tanh(self.post(F.leaky_relu(z))), frames


@kind
def voice(folder):
    def feed(batch, length):
        lengths = torch.full((batch,), length)
        lengths[-1] = length - 2
        return {"tokens": ids(40, batch, length), "lengths": lengths, "scales": torch.tensor([0.0, 1.3])}

    sizes = {"tokens": {0: "batch", 1: "length"}, "lengths": {0: "batch"}}
    export(folder / "voice.onnx", Voice(), [feed(2, 9), feed(1, 14)], ["audio", "frames"], sizes)


class Wave(nn.Module):
    """wav2vec's form: convolutions of the waveform, a positional one with weight norm, a transformer."""

    def __init__(self, width=48):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(i, 32, k, s, bias=False) for i, k, s in [(1, 10, 5), (32, 3, 2), (32, 2, 2)])
        self.group = nn.GroupNorm(32, 32)
        self.into = nn.Linear(32, width)
        self.places = nn.utils.parametrizations.weight_norm(nn.Conv1d(width, width, 16, padding=8, groups=4), dim=2)
        self.encoder = nn.Sequential(Layer(width, 4, 96), Layer(width, 4, 96))
        self.head = nn.Linear(width, 30)

    def forward(self, wave):
        x = (wave - wave.mean(-1, keepdim=True)) / torch.sqrt(wave.var(-1, keepdim=True, unbiased=False) + 1e-7)
        x = x[:, None]
        for i, conv in enumerate(self.convs):
            x = F.gelu(self.group(conv(x)) if i == 0 else conv(x))
        x = self.into(x.transpose(1, 2))
        x = x + F.gelu(self.places(x.transpose(1, 2))[:, :, :-1]).transpose(1, 2)
        return torch.log_softmax(self.head(self.encoder(x)), -1)


@kind
def wave(folder):
    feeds = [{"wave": floats(2, 800)}, {"wave": floats(1, 1333)}]
    both(folder, "wave", Wave(), feeds, ["logits"], {"wave": {0: "batch", 1: "samples"}})
    quantized(folder / "wave.onnx")


@kind
def spectrum(folder):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("window", torch.hann_window(64))
            self.register_buffer("mel", torch.rand(20, 33))
            self.gru = nn.GRU(20, 16, 2, batch_first=True, bidirectional=True)

        def forward(self, wave):
            found = torch.stft(wave, 64, 16, 64, self.window, center=True, return_complex=False)
            power = found.pow(2).sum(-1)
            mel = torch.log10(torch.clamp(self.mel @ power, min=1e-10))
            mel = torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8.0)
            return self.gru(mel.transpose(1, 2))[0]

    feeds = [{"wave": floats(1, 400)}, {"wave": floats(2, 640)}]
    export(folder / "spectrum.onnx", Net(), feeds, ["y"], {"wave": {0: "batch", 1: "samples"}})


@kind
def bounds(folder):
    """A pitch among bins between two bounds, which are inputs: drawn anywhere, they would leave no bin."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.frames = nn.Conv1d(1, 24, 64, 32)
            self.register_buffer("bins", torch.logspace(1.5, 3.3, 24))

        def forward(self, wave, low, high):
            scores = self.frames(wave[:, None]).transpose(1, 2)
            scores = scores.masked_fill(~((self.bins >= low) & (self.bins <= high)), float("-inf"))
            return (torch.softmax(scores, -1) * self.bins).sum(-1)

    limits = {"low": torch.tensor(100.0), "high": torch.tensor(900.0)}
    feeds = [{"wave": floats(1, 800)} | limits, {"wave": floats(1, 1333)} | limits]
    export(folder / "bounds.onnx", Net(), feeds, ["pitch"], {"wave": {1: "samples"}})


@kind
def packed(folder):
    """Recurrent layers of sequences of different lengths."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(50, 16)
            self.lstm = nn.LSTM(16, 12, 2, batch_first=True, bidirectional=True)
            self.head = nn.Linear(24, 5)

        def forward(self, tokens, lengths):
            x = nn.utils.rnn.pack_padded_sequence(self.words(tokens), lengths, batch_first=True, enforce_sorted=False)
            y, (h, _) = self.lstm(x)
            y, _ = nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
            return self.head(y), h

    feeds = [{"tokens": ids(50, 3, 7), "lengths": torch.tensor([7, 4, 6])}, {"tokens": ids(50, 2, 11), "lengths": torch.tensor([5, 11])}]
    sizes = {"tokens": {0: "batch", 1: "length"}, "lengths": {0: "batch"}}
    export(folder / "packed.onnx", Net(), feeds, ["y", "h"], sizes)


@kind
def greedy(folder):
    """A transducer's decoding step and a loop that ends when it knows: scripted control flow."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(16, 16)
            self.words = nn.Embedding(12, 16)
            self.head = nn.Linear(16, 12)

        def forward(self, state, token, limit):
            return unrolled(state, token, limit, self.cell.weight_ih, self.cell.weight_hh, self.words.weight, self.head.weight)

    export(folder / "greedy.onnx", Net(), [{"state": floats(1, 16), "token": torch.tensor([3]), "limit": torch.tensor(5)}, {"state": floats(1, 16, seed=3), "token": torch.tensor([1]), "limit": torch.tensor(9)}], ["tokens", "state_out"])


@torch.jit.script
def unrolled(state, token, limit, wi, wh, words, head):
    found = torch.zeros([0], dtype=torch.long)
    for i in range(int(limit)):
        x = words[token]
        gi, gh = x @ wi.t(), state @ wh.t()
        r = torch.sigmoid(gi[:, :16] + gh[:, :16])
        z = torch.sigmoid(gi[:, 16:32] + gh[:, 16:32])
        n = torch.tanh(gi[:, 32:] + r * gh[:, 32:])
        state = (1 - z) * n + z * state
        token = torch.argmax(state @ head.t(), 1)
        found = torch.cat([found, token])
    return found, state


# Graphs


class Messages(nn.Module):
    """Layers of the usual kinds of graph networks, without a library's code."""

    def __init__(self, width=16):
        super().__init__()
        self.into, self.edge = nn.Linear(8, width), nn.Linear(4, width)
        self.gcn, self.gin = nn.Linear(width, width), nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.gat, self.source, self.target = nn.Linear(width, width), nn.Parameter(floats(2, width // 2)), nn.Parameter(floats(2, width // 2, seed=1))
        self.input, self.state = nn.Linear(width, 3 * width), nn.Linear(width, 3 * width)
        self.message = nn.Linear(3 * width, width)
        self.head = nn.Linear(3 * width, 3)

    def forward(self, x, edge_index, edge_attr, batch, graphs):
        source, target = edge_index[0], edge_index[1]
        x, count = self.into(x), x.shape[0]
        # GCN, with the roots of degrees.
        degree = torch.zeros(count).scatter_add(0, target, torch.ones_like(target, dtype=torch.float32)) + 1
        norm = degree.rsqrt()
        h = self.gcn(x)
        found = torch.zeros_like(h).index_add(0, target, h[source] * (norm[source] * norm[target])[:, None])
        x = torch.relu(found + h / degree[:, None])
        # GAT: a softmax over the edges of each node.
        h = self.gat(x).view(-1, 2, 8)
        score = F.leaky_relu((h * self.source).sum(-1)[source] + (h * self.target).sum(-1)[target], 0.2)
        most = torch.full((count, 2), -1e9).scatter_reduce(0, target[:, None].expand(-1, 2), score, "amax")
        score = torch.exp(score - most[target])
        total = torch.zeros(count, 2).scatter_add(0, target[:, None].expand(-1, 2), score)
        weight = score / (total[target] + 1e-16)
        x = x + torch.zeros_like(h).index_add(0, target, h[source] * weight[:, :, None]).flatten(1)
        # GIN with edges, then a gated update with the mean of messages.
        x = x + self.gin(x + torch.zeros_like(x).index_add(0, target, torch.relu(x[source] + self.edge(edge_attr))))
        m = self.message(torch.cat([x[source], x[target], self.edge(edge_attr)], -1))
        m = torch.zeros_like(x).scatter_add(0, target[:, None].expand(-1, x.shape[1]), m) / (degree - 1).clamp(min=1)[:, None]
        gi, gh = self.input(m), self.state(x)
        width = self.into.out_features
        r, z = torch.sigmoid(gi[:, : 2 * width] + gh[:, : 2 * width]).split(width, 1)
        x = (1 - z) * torch.tanh(gi[:, 2 * width :] + r * gh[:, 2 * width :]) + z * x
        count = graphs.shape[0]
        at = batch[:, None].expand(-1, x.shape[1])
        total = torch.zeros(count, x.shape[1]).scatter_add(0, at, x)
        size = torch.zeros(count).scatter_add(0, batch, torch.ones(x.shape[0]))
        most = torch.full((count, x.shape[1]), -9.0).scatter_reduce(0, at, x, "amax")
        return self.head(torch.cat([total, total / size.clamp(min=1)[:, None], most], -1)), x


@kind
def messages(folder):
    def feed(nodes, edges, graphs):
        return {
            "x": floats(nodes, 8), "edge_index": ids(nodes, 2, edges), "edge_attr": floats(edges, 4),
            "batch": torch.sort(ids(graphs, nodes, seed=2))[0], "graphs": torch.zeros(graphs),
        }  # fmt: skip

    sizes = {"x": {0: "nodes"}, "edge_index": {1: "edges"}, "edge_attr": {0: "edges"}, "batch": {0: "nodes"}, "graphs": {0: "graphs"}}
    export(folder / "messages.onnx", Messages(), [feed(9, 20, 2), feed(14, 41, 3)], ["y", "nodes_out"], sizes, opset=18)


# Images


def vision(folder, name, net, size=64, other=None, new=True, channels=3, opset=17):
    feeds = [{"image": floats(1, channels, size, size)}, {"image": floats(2, channels, other or size, other or size)}]
    sizes = {"image": {0: "batch"} | ({2: "height", 3: "width"} if other else {})}
    export(folder / f"{name}.onnx", net, feeds, ["y"], sizes, opset)
    if new:
        newer(folder / f"{name}-dynamo.onnx", net, feeds, ["y"], sizes, opset)


class First(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image):
        return self.net(image)["out"]


@kind
def classifiers(folder):
    models = torchvision.models
    vision(folder, "shufflenet", models.shufflenet_v2_x0_5(weights=None), 64, 96, new=False, opset=11)
    vision(folder, "mnasnet", models.mnasnet0_5(weights=None), 64, 96, new=False, opset=9)
    vision(folder, "efficientnet_v2", models.efficientnet_v2_s(weights=None), 64, new=True)
    vision(folder, "convnext", models.convnext_tiny(weights=None), 64, 96, new=False, opset=18)
    vision(folder, "regnet", models.regnet_y_400mf(weights=None), 64, new=False, opset=13)
    vision(folder, "swin", models.swin_t(weights=None), 64, new=True)
    vision(folder, "swin_v2", models.swin_v2_t(weights=None), 64, new=False)
    vision(folder, "maxvit", models.maxvit_t(weights=None), 224, new=False)
    vision(folder, "googlenet", models.googlenet(weights=None, init_weights=False, aux_logits=False), 96, new=False, opset=7)


@kind
def segmentation(folder):
    models = torchvision.models.segmentation
    vision(folder, "lraspp", First(models.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)), 64, 96)
    vision(folder, "deeplab", First(models.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)), 96, 64, new=False, opset=11)


@kind
def video(folder):
    net = torchvision.models.video.mc3_18(weights=None)
    feeds = [{"clip": floats(1, 3, 8, 32, 32)}, {"clip": floats(2, 3, 6, 32, 40)}]
    export(folder / "video.onnx", net, feeds, ["y"], {"clip": {0: "batch", 2: "time", 4: "width"}})


class Detector(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image):
        found = self.net([image])
        found = found[1][0] if isinstance(found, tuple) else found[0]
        return found["boxes"], found["scores"], found["labels"]


@kind
def detectors(folder):
    models = torchvision.models.detection
    feeds = [{"image": floats(3, 96, 128).abs() % 1}, {"image": floats(3, 120, 100).abs() % 1}]
    sizes = {"image": {1: "height", 2: "width"}}
    makers = {
        "ssdlite": lambda: models.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5, score_thresh=0.21, topk_candidates=40),
        "fasterrcnn": lambda: models.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=4, min_size=96, max_size=128, box_score_thresh=0.0, rpn_post_nms_top_n_test=30, rpn_pre_nms_top_n_test=50),
        "retinanet": lambda: models.retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4, min_size=96, max_size=128, score_thresh=0.0, topk_candidates=30),
        "fcos": lambda: models.fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4, min_size=96, max_size=128, score_thresh=0.0, topk_candidates=30),
    }  # fmt: skip
    for name, make in makers.items():
        torch.manual_seed(3)
        export(folder / f"{name}.onnx", Detector(make()), feeds, ["boxes", "scores", "labels"], sizes)


@kind
def centers(folder):
    """CenterNet's way: peaks of a heat map; and YOLO's grid with NonMaxSuppression."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.SiLU())
            self.heat, self.size = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 2, 1)

        def forward(self, image):
            x = self.body(image)
            heat = torch.sigmoid(self.heat(x))
            heat = heat * (F.max_pool2d(heat, 3, 1, 1) == heat).float()
            batch, classes, height, width = heat.shape
            scores, at = torch.topk(heat.view(batch, -1), 12)
            place = at % (height * width)
            label = torch.div(at, height * width, rounding_mode="floor")
            x0, y0 = (place % width).float(), torch.div(place, width, rounding_mode="floor").float()
            size = self.size(x).permute(0, 2, 3, 1).reshape(batch, -1, 2).gather(1, place[:, :, None].expand(-1, -1, 2))
            boxes = torch.stack([x0 - size[..., 0], y0 - size[..., 1], x0 + size[..., 0], y0 + size[..., 1]], -1)
            return boxes * 4, scores, label

    class Grid(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 4, 1), nn.SiLU(), nn.Conv2d(16, 3 * 8, 3, 2, 1))
            self.register_buffer("anchors", torch.tensor([[8.0, 9.0], [14.0, 12.0], [22.0, 25.0]]).view(1, 3, 1, 1, 2))

        def forward(self, image):
            x = self.body(image)
            batch, _, height, width = x.shape
            x = x.view(batch, 3, 8, height, width).permute(0, 1, 3, 4, 2).contiguous().sigmoid()
            ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            grid = torch.stack((xs, ys), 2).expand(1, 3, height, width, 2).float()
            xy = (x[..., :2] * 2 - 0.5 + grid) * 8
            wh = (x[..., 2:4] * 2) ** 2 * self.anchors
            y = torch.cat((xy, wh, x[..., 4:]), -1).view(batch, -1, 8)
            scores = y[0, :, 4] * y[0, :, 5:].amax(-1)
            corners = torch.cat([y[0, :, :2] - y[0, :, 2:4] / 2, y[0, :, :2] + y[0, :, 2:4] / 2], -1)
            kept = torchvision.ops.batched_nms(corners, scores, y[0, :, 5:].argmax(-1), 0.45)[:10]
            return y, corners[kept], scores[kept]

    feeds = [{"image": floats(1, 3, 64, 96)}, {"image": floats(2, 3, 96, 64)}]
    sizes = {"image": {0: "batch", 2: "height", 3: "width"}}
    export(folder / "centers.onnx", Net(), feeds, ["boxes", "scores", "labels"], sizes)
    export(folder / "grid.onnx", Grid(), feeds, ["all", "boxes", "scores"], sizes)


@kind
def letters(folder):
    """OCR: convolutions, LSTM both ways, the best class of each step."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d((2, 1)), nn.Conv2d(32, 32, (4, 2)), nn.Hardswish())
            self.lstm = nn.LSTM(32 * 5, 24, 2, bidirectional=True)
            self.head = nn.Linear(48, 37)

        def forward(self, image):
            x = self.body(image)
            x = x.permute(3, 0, 1, 2).flatten(2)
            y = self.head(self.lstm(x)[0])
            return torch.softmax(y, -1), y.argmax(-1).transpose(0, 1)

    feeds = [{"image": floats(1, 1, 32, 64)}, {"image": floats(3, 1, 32, 100)}]
    export(folder / "letters.onnx", Net(), feeds, ["y", "best"], {"image": {0: "batch", 3: "width"}}, opset=11)
    quantized(folder / "letters.onnx", op_types_to_quantize=["MatMul", "LSTM", "Gemm"])


@kind
def warps(folder):
    """Ops that vision nets use now and then."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 8, 3, padding=1, padding_mode="reflect")
            self.norm = nn.InstanceNorm2d(8, affine=True)
            self.prelu = nn.PReLU(8)

        def forward(self, image, theta):
            ys, xs = torch.meshgrid(torch.linspace(-1, 1, 12), torch.linspace(-1, 1, 16), indexing="ij")
            grid = torch.stack([xs, ys, torch.ones(12, 16)], -1).view(1, -1, 3) @ theta.transpose(1, 2)
            grid = grid.view(-1, 12, 16, 2)
            x = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
            x = self.prelu(self.norm(self.conv(x)))
            x = F.pixel_shuffle(x, 2)
            a = F.interpolate(x, scale_factor=1.5, mode="bicubic", align_corners=False)
            b = F.interpolate(x, size=(10, 14), mode="bilinear", align_corners=True)
            c = F.unfold(x, 3, padding=1, stride=2)
            d = F.adaptive_avg_pool2d(x, 1) + F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False)
            e = torch.roll(x, (1, -2), (2, 3)).cumsum(3).flip(2)
            return a, b, c, d, e

    def feed(batch):
        theta = torch.tensor([[[0.9, 0.1, 0.05], [-0.1, 1.1, -0.1]]]).repeat(batch, 1, 1)
        return {"image": floats(batch, 4, 12, 16), "theta": theta}

    sizes = {"image": {0: "batch"}, "theta": {0: "batch"}}
    export(folder / "warps.onnx", Net(), [feed(1), feed(3)], list("abcde"), sizes, opset=20)
    export(folder / "warps-16.onnx", Net(), [feed(1), feed(3)], list("abcde"), sizes, opset=16)


@kind
def indices(folder):
    """Indexing of all kinds."""

    class Net(nn.Module):
        def forward(self, x, at, mask):
            a = x[at]
            b = x.clone()
            b[at, 1:3] = 7.0
            c = x.masked_fill(mask, -1.0)
            d, order = torch.sort(x, -1, descending=True)
            e = x[mask].sum()
            f = torch.einsum("ij,kj->ik", x, x)
            g = (x[:, None] - x[None]).pow(2).sum(-1).sqrt()
            h = torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0]))
            i = torch.where(mask)[0]
            j = torch.logsumexp(x, 1) + x.norm(dim=1) + x.var(1)
            k = F.one_hot(at, 9).float()
            m = x.unsqueeze(0).repeat(2, 1, 1).tril(1)
            n = x.gather(1, order) // 0.5
            return a, b, c, d, e, f, g, h, i, j, k, m, n

    def feed(rows):
        x = floats(rows, 6)
        return {"x": x, "at": ids(5, 4), "mask": x > 0.3}

    export(folder / "indices.onnx", Net(), [feed(6), feed(9)], list("abcdefghijkmn"), {"x": {0: "rows"}, "mask": {0: "rows"}}, opset=18)


# Written by hand


@kind
def scan_quantized(folder):
    """A recurrence in a Scan whose products are between QuantizeLinear and DequantizeLinear."""
    rng = np.random.default_rng(0)

    def tensor(name, value):
        return numpy_helper.from_array(np.asarray(value), name)

    weights = rng.integers(-127, 128, (8, 8)).astype(np.int8)
    inside = [
        helper.make_node("QuantizeLinear", ["h", "hs", "hz"], ["hq"]),
        helper.make_node("DequantizeLinear", ["hq", "hs", "hz"], ["hd"]),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], axis=1),
        helper.make_node("MatMul", ["hd", "wd"], ["m"]),
        helper.make_node("Add", ["m", "x"], ["s"]),
        helper.make_node("Tanh", ["s"], ["h_out"]),
        helper.make_node("QuantizeLinear", ["h_out", "hs", "hz"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "hs", "hz"], ["y"]),
    ]
    row = helper.make_tensor_value_info
    body = helper.make_graph(
        inside, "body",
        [row("h", TensorProto.FLOAT, ["batch", 8]), row("x", TensorProto.FLOAT, ["batch", 8])],
        [row("h_out", TensorProto.FLOAT, ["batch", 8]), row("y", TensorProto.FLOAT, ["batch", 8])],
    )  # fmt: skip
    for reverse in (0, 1):
        scan = helper.make_node("Scan", ["h0", "xs"], ["last", "ys"], body=body, num_scan_inputs=1, scan_input_directions=[reverse], scan_output_directions=[reverse])
        graph = helper.make_graph(
            [scan], "scan",
            [row("h0", TensorProto.FLOAT, ["batch", 8]), row("xs", TensorProto.FLOAT, ["time", "batch", 8])],
            [row("last", TensorProto.FLOAT, ["batch", 8]), row("ys", TensorProto.FLOAT, ["time", "batch", 8])],
            [tensor("wq", weights), tensor("ws", (rng.random(8) * 0.004 + 0.001).astype(np.float32)), tensor("wz", np.zeros(8, np.int8)), tensor("hs", np.float32(1 / 127)), tensor("hz", np.int8(0))],
        )  # fmt: skip
        path = folder / f"scan_quantized-{reverse}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8), path)
        save_feeds(path, [{"h0": floats(2, 8) / 9, "xs": floats(5, 2, 8)}, {"h0": floats(1, 8) / 9, "xs": floats(12, 1, 8)}])


@kind
def trees(folder):
    import lightgbm
    import onnxmltools
    import xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType
    from skl2onnx import to_onnx
    from sklearn import ensemble, linear_model, pipeline, preprocessing

    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 6)).astype(np.float32)
    three = np.digitize(x[:, 0] + x[:, 1] * x[:, 2], [-0.5, 0.5])
    real = x[:, 0] * 2 + np.sin(x[:, 3])
    feeds = [{"input": x[:5]}, {"input": rng.standard_normal((40, 6)).astype(np.float32)}]
    kinds = [("input", FloatTensorType([None, 6]))]
    made = {
        "lightgbm-classes": lambda: onnxmltools.convert_lightgbm(lightgbm.LGBMClassifier(n_estimators=12, verbose=-1).fit(x, three), initial_types=kinds, zipmap=False, target_opset=15),
        "lightgbm-zipmap": lambda: onnxmltools.convert_lightgbm(lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(x, (three > 0).astype(int)), initial_types=kinds, target_opset=15),
        "lightgbm-numbers": lambda: onnxmltools.convert_lightgbm(lightgbm.LGBMRegressor(n_estimators=12, verbose=-1).fit(x, real), initial_types=kinds, target_opset=15),
        "xgboost-classes": lambda: onnxmltools.convert_xgboost(xgboost.XGBClassifier(n_estimators=8).fit(x, three), initial_types=kinds, target_opset=15),
        "xgboost-numbers": lambda: onnxmltools.convert_xgboost(xgboost.XGBRegressor(n_estimators=8).fit(x, real), initial_types=kinds, target_opset=15),
        "isolation": lambda: to_onnx(ensemble.IsolationForest(n_estimators=20, random_state=0).fit(x), x[:1], target_opset={"": 15, "ai.onnx.ml": 3}),
        "scaled": lambda: to_onnx(pipeline.make_pipeline(preprocessing.StandardScaler(), preprocessing.PolynomialFeatures(2), linear_model.LogisticRegression()).fit(x, three), x[:1], options={"zipmap": False}),
    }  # fmt: skip
    for name, make in made.items():
        model = make()
        path = folder / f"trees-{name}.onnx"
        path.write_bytes(model.SerializeToString())
        save_feeds(path, [{model.graph.input[0].name: f["input"]} for f in feeds])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--only", default="", help="a part of the kind's name")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore")
    logging.disable()
    for name, make in MAKERS.items():
        if args.only in name:
            torch.manual_seed(0)
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    make(args.folder)
                print(name, flush=True)
            except Exception as error:  # noqa: BLE001: an exporter that cannot must not hide the others
                print(f"{name}: not made: {type(error).__name__}: {str(error)[:300]}", flush=True)


if __name__ == "__main__":
    main()
