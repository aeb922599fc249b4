#!/usr/bin/env python3
"""Make the networks of the race: the same layers as ONNX files and as Core ML packages.

    python bench/race_nets.py FOLDER [NAME...]

For each name: NAME.onnx (fp32), NAME.mlpackage (fp32), NAME-fp16.mlpackage, the inputs as NAME.inputs/*.npy, and
PyTorch's output, NAME.y.npy; for decode also packages with compressed weights. The weights are random, the shapes those of real networks. Wants coremltools 9.0, CPU
builds of torch 2.7 and torchvision 0.22, and onnx.
"""

import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

import coremltools as ct
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models


def warm(model, x):
    """Give batch normalization sensible statistics."""
    model.train()
    with torch.no_grad():
        model(x)
        model(x)
    return model.eval()


class Encoder(nn.Module):
    """A transformer encoder of MiniLM's sizes."""

    def __init__(self, layers=6, width=384, heads=12, inner=1536, words=30522, length=512):
        super().__init__()
        self.heads = heads
        self.words = nn.Embedding(words, width)
        self.positions = nn.Parameter(torch.randn(1, length, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        linears = dict(q=(width, width), k=(width, width), v=(width, width), o=(width, width))
        linears |= dict(up=(width, inner), down=(inner, width))

        def layer():
            parts = {name: nn.Linear(*size) for name, size in linears.items()}
            return nn.ModuleDict(parts | dict(n1=nn.LayerNorm(width), n2=nn.LayerNorm(width)))

        self.layers = nn.ModuleList([layer() for _ in range(layers)])

    def forward(self, ids, mask):
        x = self.norm(self.words(ids) + self.positions[:, : ids.shape[1]])
        mask = (1.0 - mask[:, None, None, :].float()) * -1e4
        batch, length, width = x.shape
        split = lambda t: t.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
        for layer in self.layers:
            scores = split(layer["q"](x)) @ split(layer["k"](x)).transpose(2, 3)
            weights = torch.softmax(scores / (width // self.heads) ** 0.5 + mask, -1)
            mixed = (weights @ split(layer["v"](x))).transpose(1, 2).reshape(batch, length, width)
            x = layer["n1"](x + layer["o"](mixed))
            x = layer["n2"](x + layer["down"](F.gelu(layer["up"](x))))
        return x


class Vit(nn.Module):
    """A vision transformer of the small size, with six layers."""

    def __init__(self, width=384, layers=6, heads=6):
        super().__init__()
        self.heads = heads
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.positions = nn.Parameter(torch.randn(1, 196, width) * 0.02)
        linears = dict(qkv=(width, 3 * width), o=(width, width), up=(width, 4 * width), down=(4 * width, width))

        def layer():
            parts = {name: nn.Linear(*size) for name, size in linears.items()}
            return nn.ModuleDict(parts | dict(n1=nn.LayerNorm(width), n2=nn.LayerNorm(width)))

        self.layers = nn.ModuleList([layer() for _ in range(layers)])
        self.head = nn.Linear(width, 1000)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        batch, length, width = x.shape
        for layer in self.layers:
            qkv = layer["qkv"](layer["n1"](x)).reshape(batch, length, 3, self.heads, width // self.heads)
            mixed = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
            x = x + layer["o"](mixed.transpose(1, 2).reshape(batch, length, width))
            x = x + layer["down"](F.gelu(layer["up"](layer["n2"](x))))
        return self.head(x.mean(1))


class Unet(nn.Module):
    def __init__(self, c=32):
        super().__init__()

        def twice(i, o):
            one = lambda i: [nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU()]
            return nn.Sequential(*one(i), *one(o))

        sizes = [3, c, 2 * c, 4 * c, 8 * c]
        self.down = nn.ModuleList([twice(i, o) for i, o in zip(sizes, sizes[1:])])
        self.up = nn.ModuleList([nn.ConvTranspose2d(2 * o, o, 2, 2) for o in (4 * c, 2 * c, c)])
        self.merge = nn.ModuleList([twice(2 * o, o) for o in (4 * c, 2 * c, c)])
        self.out = nn.Conv2d(c, 4, 1)

    def forward(self, x):
        kept = []
        for i, down in enumerate(self.down):
            x = down(x)
            if i < 3:
                kept.append(x)
                x = F.max_pool2d(x, 2)
        for up, merge in zip(self.up, self.merge):
            x = merge(torch.cat([up(x), kept.pop()], 1))
        return self.out(x)


class Detector(nn.Module):
    """The trunk and head of a one-stage detector with SiLU."""

    def __init__(self, w=16):
        super().__init__()

        def conv(i, o, k=3, stride=1):
            return nn.Sequential(nn.Conv2d(i, o, k, stride, k // 2, bias=False), nn.BatchNorm2d(o), nn.SiLU())

        sizes = [3, w, 2 * w, 4 * w, 8 * w, 16 * w]
        self.stem = nn.ModuleList([conv(i, o, 3, 2) for i, o in zip(sizes, sizes[1:])])

        def stage(c):
            inner = [conv(c // 2, c // 2), conv(c // 2, c // 2)]
            return nn.ModuleList([conv(c, c, 1), *inner, conv(c + c // 2, c, 1)])

        self.stages = nn.ModuleList([stage(c) for c in sizes[2:]])
        heads = [nn.Sequential(conv(c, 64), conv(64, 64), nn.Conv2d(64, 144, 1)) for c in sizes[3:]]
        self.heads = nn.ModuleList(heads)

    def forward(self, x):
        x = self.stem[0](x)
        found = []
        for i, (down, stage) in enumerate(zip(self.stem[1:], self.stages)):
            p, q = stage[0](down(x)).chunk(2, 1)
            r = q + stage[2](stage[1](q))
            x = stage[3](torch.cat([p, q, r], 1))
            if i:
                found.append(x)
        return torch.cat([head(x).flatten(2) for head, x in zip(self.heads, found)], 2)


class Speech(nn.Module):
    """Convolutions of one dimension, two bidirectional recurrent layers, and a linear layer."""

    def __init__(self, cell):
        super().__init__()
        sizes = [nn.Conv1d(80, 256, 3, padding=1), nn.Conv1d(256, 256, 3, 2, padding=1)]
        self.convs = nn.ModuleList(sizes)
        self.cells = cell(256, 256, 2, batch_first=True, bidirectional=True)
        self.out = nn.Linear(512, 64)

    def forward(self, x):
        for conv in self.convs:
            x = F.gelu(conv(x))
        return torch.log_softmax(self.out(self.cells(x.transpose(1, 2))[0]), -1)


class Decode(nn.Module):
    """One token through the feed-forward layers of a decoder: a chain of products of a matrix and a vector."""

    def __init__(self, width=2048, inner=5632, layers=4):
        super().__init__()

        def layer():
            up = dict(a=nn.Linear(width, inner, False), b=nn.Linear(width, inner, False))
            return nn.ModuleDict(up | dict(n=nn.LayerNorm(width), c=nn.Linear(inner, width, False)))

        self.layers = nn.ModuleList([layer() for _ in range(layers)])

    def forward(self, x):
        for layer in self.layers:
            h = layer["n"](x)
            x = x + layer["c"](F.silu(layer["a"](h)) * layer["b"](h))
        return x


def image(side=224, batch=1):
    return torch.randn(batch, 3, side, side)


def vision(name):
    return lambda: (warm(getattr(models, name)(), image(batch=4)), (image(),))


def speech(cell):
    return lambda: (Speech(cell).eval(), (torch.randn(1, 80, 200),))


def text():
    return Encoder().eval(), (torch.randint(0, 30000, (1, 128)), torch.ones(1, 128, dtype=torch.int64))


NETWORKS = {
    "resnet50": vision("resnet50"),
    "mobilenet_v2": vision("mobilenet_v2"),
    "mobilenet_v3_small": vision("mobilenet_v3_small"),
    "efficientnet_b0": vision("efficientnet_b0"),
    "minilm128": text,
    "vit_s": lambda: (Vit().eval(), (image(),)),
    "unet256": lambda: (warm(Unet(), image(256, 2)), (image(256),)),
    "yolo320": lambda: (warm(Detector(), image(320, 2)), (image(320),)),
    "speech_lstm": speech(nn.LSTM),
    "speech_gru": speech(nn.GRU),
    "decode": lambda: (Decode().eval(), (torch.randn(1, 1, 2048),)),
}


# Also made with compressed weights, from the fp16 package.
COMPRESSED = ("decode",)


def compressions():
    """Suffixes, and what makes a package of that form."""
    from coremltools.optimize import coreml as cto

    def with_config(compress, config):
        return lambda package: compress(package, cto.OptimizationConfig(global_config=config))

    symmetric = dict(mode="linear_symmetric")
    int8 = cto.OpLinearQuantizerConfig(**symmetric, dtype="int8", granularity="per_channel")
    int4 = cto.OpLinearQuantizerConfig(**symmetric, dtype="int4", granularity="per_block", block_size=64)
    palette = cto.OpPalettizerConfig(mode="uniform", nbits=4)
    yield "int8", with_config(cto.linear_quantize_weights, int8)
    yield "int4", with_config(cto.linear_quantize_weights, int4)
    yield "palette4", with_config(cto.palettize_weights, palette)


def make(name, folder):
    torch.manual_seed(0)
    model, inputs = NETWORKS[name]()
    names = ["ids", "mask"] if len(inputs) > 1 else ["x"]
    with torch.no_grad():
        np.save(folder / f"{name}.y.npy", model(*inputs).numpy())
        traced = torch.jit.trace(model, inputs, check_trace=False)
    whole = [t.to(torch.int32) if t.dtype == torch.int64 else t for t in inputs]
    (folder / f"{name}.inputs").mkdir(exist_ok=True)
    for input_name, tensor in zip(names, whole):
        np.save(folder / f"{name}.inputs" / f"{input_name}.npy", tensor.numpy())
    options = dict(input_names=names, output_names=["y"], opset_version=17, dynamo=False)
    torch.onnx.export(model, inputs, str(folder / f"{name}.onnx"), **options)
    for suffix, precision in (("", ct.precision.FLOAT32), ("-fp16", ct.precision.FLOAT16)):
        package = ct.convert(
            traced,
            inputs=[ct.TensorType(n, t.shape, dtype=t.numpy().dtype.type) for n, t in zip(names, whole)],
            outputs=[ct.TensorType("y", dtype=np.float32)],
            compute_precision=precision,
            minimum_deployment_target=ct.target.iOS18,
            skip_model_load=True,
        )
        package.save(str(folder / f"{name}{suffix}.mlpackage"))
    if name in COMPRESSED:
        for suffix, compress in compressions():
            compress(package).save(str(folder / f"{name}-{suffix}.mlpackage"))
    print(name, flush=True)


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or NETWORKS:
        make(name, folder)


if __name__ == "__main__":
    main()
