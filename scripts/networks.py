"""The PyTorch networks that convert_models.py turns into Core ML packages.

Real weights where a package ships them (MiniLM); otherwise seeded ones. Networks with batch norm are run over photo
crops in training mode first, so that their running statistics, and with them the folded weights, look trained.
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn


class MiniLM(nn.Module):
    """The BERT encoder of all-MiniLM-L6-v2 and its sentence embedding (masked mean, unit length).

    `fused` asks for scaled_dot_product_attention as one operation, else it is written out with matmul and softmax.
    """

    def __init__(self, config, fused):
        super().__init__()
        width, self.heads, self.fused = config["hidden_size"], config["num_attention_heads"], fused
        self.words = nn.Embedding(config["vocab_size"], width)
        self.positions = nn.Embedding(config["max_position_embeddings"], width)
        self.kinds = nn.Embedding(config["type_vocab_size"], width)
        self.norm = nn.LayerNorm(width, eps=config["layer_norm_eps"])
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "query": nn.Linear(width, width),
                    "key": nn.Linear(width, width),
                    "value": nn.Linear(width, width),
                    "attended": nn.Linear(width, width),
                    "attended_norm": nn.LayerNorm(width, eps=config["layer_norm_eps"]),
                    "up": nn.Linear(width, config["intermediate_size"]),
                    "down": nn.Linear(config["intermediate_size"], width),
                    "norm": nn.LayerNorm(width, eps=config["layer_norm_eps"]),
                }
            )
            for _ in range(config["num_hidden_layers"])
        )

    @classmethod
    def load(cls, folder, fused=False):
        from safetensors.torch import load_file

        model = cls(json.loads((Path(folder) / "config.json").read_text()), fused)
        stored = load_file(Path(folder) / "model.safetensors")
        places = {
            "words": "embeddings.word_embeddings",
            "positions": "embeddings.position_embeddings",
            "kinds": "embeddings.token_type_embeddings",
            "norm": "embeddings.LayerNorm",
        }
        inside = {
            "query": "attention.self.query",
            "key": "attention.self.key",
            "value": "attention.self.value",
            "attended": "attention.output.dense",
            "attended_norm": "attention.output.LayerNorm",
            "up": "intermediate.dense",
            "down": "output.dense",
            "norm": "output.LayerNorm",
        }
        for layer in range(len(model.layers)):
            places |= {f"layers.{layer}.{ours}": f"encoder.layer.{layer}.{theirs}" for ours, theirs in inside.items()}
        renamed = {
            f"{ours}.{part}": stored[f"{theirs}.{part}"]
            for ours, theirs in places.items()
            for part in ("weight", "bias")
            if f"{theirs}.{part}" in stored
        }
        model.load_state_dict(renamed)
        return model.eval()

    def attend(self, query, key, value, bias):
        if self.fused:
            return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        return torch.softmax(scores + bias, dim=-1) @ value

    def split_heads(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask.to(torch.float32)
        bias = (1.0 - mask)[:, None, None, :] * -10000.0
        positions = self.positions.weight[: input_ids.shape[1]]
        x = self.norm(self.words(input_ids) + positions + self.kinds.weight[0])
        for layer in self.layers:
            query, key, value = (self.split_heads(layer[part](x)) for part in ("query", "key", "value"))
            attended = self.attend(query, key, value, bias).transpose(1, 2).flatten(2)
            x = layer["attended_norm"](x + layer["attended"](attended))
            x = layer["norm"](x + layer["down"](F.gelu(layer["up"](x))))
        total = (x * mask[:, :, None]).sum(dim=1)
        embedding = total / mask.sum(dim=1, keepdim=True).clamp(min=1.0)
        return x, embedding / embedding.norm(dim=1, keepdim=True)


def word_pieces(text, vocabulary_path, length):
    """(input_ids, attention_mask), int32 [1, length]: lower-cased words cut greedily into the vocabulary's pieces."""
    vocabulary = {piece: index for index, piece in enumerate(Path(vocabulary_path).read_text().splitlines())}
    ids = [vocabulary["[CLS]"]]
    for word in text.lower().replace(".", " . ").replace(",", " , ").split():
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            end = next((e for e in range(len(word), start, -1) if prefix + word[start:e] in vocabulary), None)
            if end is None:
                ids.append(vocabulary["[UNK]"])
                break
            ids.append(vocabulary[prefix + word[start:end]])
            start = end
    ids = ids[: length - 1] + [vocabulary["[SEP]"]]
    padding = length - len(ids)
    mask = [1] * len(ids) + [0] * padding
    return torch.tensor([ids + [0] * padding], dtype=torch.int32), torch.tensor([mask], dtype=torch.int32)


def with_statistics(model, photos, passes=4):
    """Give the batch norms running statistics from `photos` [N, 3, H, W], and non-trivial scales; return in eval mode."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.momentum = 0.3
            nn.init.uniform_(module.weight, 0.6, 1.4)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    with torch.no_grad():
        for _ in range(passes):
            model.train()(photos + 0.05 * torch.randn_like(photos))
    return model.eval()


class Probabilities(nn.Module):
    """A classifier's network followed by softmax."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        return torch.softmax(self.network(image), dim=1)


class UNet(nn.Module):
    """Two levels down, up again by a transposed convolution and by bilinear interpolation; image to mask."""

    def __init__(self, align_corners=False):
        super().__init__()

        def block(inputs, outputs):
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
                nn.Conv2d(outputs, outputs, 3, padding=1),
                nn.ReLU(),
            )

        self.align_corners = align_corners
        self.top, self.middle, self.bottom = block(3, 16), block(16, 32), block(32, 64)
        self.up = nn.ConvTranspose2d(64, 32, 2, stride=2)
        self.join_middle, self.join_top = block(64, 32), block(48, 16)
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, image):
        top = self.top(image)
        middle = self.middle(F.max_pool2d(top, 2))
        bottom = self.bottom(F.avg_pool2d(middle, 2))
        middle = self.join_middle(torch.cat([self.up(bottom), middle], dim=1))
        middle = F.interpolate(middle, scale_factor=2, mode="bilinear", align_corners=self.align_corners)
        return torch.sigmoid(self.head(self.join_top(torch.cat([middle, top], dim=1))))


class ViT(nn.Module):
    """A small vision transformer, 64x64 pixels in patches of 8; pre-norm, class token, GELU."""

    def __init__(self, fused, width=96, depth=3, heads=4, classes=20):
        super().__init__()
        self.heads, self.fused = heads, fused
        self.patches = nn.Conv2d(3, width, 8, stride=8)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.2)
        self.positions = nn.Parameter(torch.randn(1, 65, width) * 0.2)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(width),
                    "qkv": nn.Linear(width, 3 * width),
                    "project": nn.Linear(width, width),
                    "norm2": nn.LayerNorm(width),
                    "up": nn.Linear(width, 4 * width),
                    "down": nn.Linear(4 * width, width),
                }
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def attend(self, x, layer):
        batch, length, width = x.shape
        qkv = layer["qkv"](x).reshape(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv[0], qkv[1], qkv[2]
        if self.fused:
            out = F.scaled_dot_product_attention(query, key, value)
        else:
            out = torch.softmax(query @ key.transpose(-2, -1) * (width // self.heads) ** -0.5, dim=-1) @ value
        return layer["project"](out.transpose(1, 2).reshape(batch, length, width))

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        for layer in self.layers:
            x = x + self.attend(layer["norm1"](x), layer)
            x = x + layer["down"](F.gelu(layer["up"](layer["norm2"](x))))
        return self.head(self.norm(x)[:, 0])


class AudioNet(nn.Module):
    """1-D convolutions over a waveform: reflect padding, strided and depthwise convolutions, group norm, attention pooling."""

    def __init__(self, classes=12):
        super().__init__()
        self.stem = nn.Conv1d(1, 24, 25, stride=8)
        self.norm1 = nn.GroupNorm(4, 24)
        self.depthwise = nn.Conv1d(24, 24, 9, padding=4, groups=24)
        self.pointwise = nn.Conv1d(24, 48, 1)
        self.norm2 = nn.InstanceNorm1d(48, affine=True)
        self.dilated = nn.Conv1d(48, 48, 3, padding=4, dilation=4)
        self.prelu = nn.PReLU(48)
        self.up = nn.ConvTranspose1d(48, 24, 4, stride=2, padding=1)
        self.scores = nn.Conv1d(24, 1, 1)
        self.head = nn.Linear(24, classes)

    def forward(self, waveform):
        x = F.relu(self.norm1(self.stem(F.pad(waveform, (12, 12), mode="reflect"))))
        x = F.leaky_relu(self.norm2(self.pointwise(self.depthwise(x))), 0.1)
        x = F.max_pool1d(self.prelu(self.dilated(x)), 2)
        x = F.elu(self.up(x))
        weights = torch.softmax(self.scores(x), dim=-1)
        return self.head((x * weights).sum(dim=-1)), x.abs().amax(dim=-1)


class SqueezeReflect(nn.Module):
    """EfficientNet-like blocks (depthwise, squeeze-and-excite, swish) with reflect and replicate padding, image to image."""

    def __init__(self, width=24):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3)
        self.expand = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(4 * width)
        self.depthwise = nn.Conv2d(4 * width, 4 * width, 5, groups=4 * width, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * width)
        self.squeeze = nn.Conv2d(4 * width, width // 4, 1)
        self.excite = nn.Conv2d(width // 4, 4 * width, 1)
        self.project = nn.Conv2d(4 * width, width, 1)
        self.norm3 = nn.InstanceNorm2d(width, affine=True)
        self.out = nn.Conv2d(width, 12, 3, padding=1)

    def forward(self, image):
        x = F.silu(self.stem(F.pad(image, (1, 1, 1, 1), mode="reflect")))
        y = F.silu(self.norm1(self.expand(x)))
        y = F.silu(self.norm2(self.depthwise(F.pad(y, (2, 2, 2, 2), mode="replicate"))))
        gate = torch.sigmoid(self.excite(F.silu(self.squeeze(y.mean(dim=(2, 3), keepdim=True)))))
        x = x + self.norm3(self.project(y * gate))
        return F.pixel_shuffle(self.out(x), 2).clamp(-1.0, 1.0)


class Recurrent(nn.Module):
    """LSTM (two layers, both directions), GRU and a plain RNN over a sequence of features."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(20, 24, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(48, 16, batch_first=True)
        self.rnn = nn.RNN(16, 8, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, sequence):
        x, (hidden, cell) = self.lstm(sequence)
        x, _ = self.gru(x)
        x, _ = self.rnn(x)
        return F.log_softmax(self.head(x), dim=-1), hidden, cell


class Activations(nn.Module):
    def __init__(self):
        super().__init__()
        self.prelu = nn.PReLU(6)
        nn.init.uniform_(self.prelu.weight, 0.05, 0.5)

    def forward(self, x):
        y = [
            self.prelu(x), F.leaky_relu(x, 0.2), F.elu(x, 0.7), F.softplus(x), F.softplus(x, beta=2.0), F.relu6(x),
            F.hardswish(x), F.hardsigmoid(x), F.mish(x), F.gelu(x), F.gelu(x, approximate="tanh"), F.selu(x),
            F.softsign(x), torch.tanh(x), torch.sigmoid(x), F.silu(x), F.hardtanh(x, -0.5, 0.8), F.threshold(x, 0.1, -1.0),
            torch.erf(x),
        ]  # fmt: skip
        return torch.stack(y, dim=1), F.log_softmax(x, dim=1), torch.softmax(x, dim=-1)


class Norms(nn.Module):
    def __init__(self):
        super().__init__()
        self.group, self.instance = nn.GroupNorm(3, 12), nn.InstanceNorm2d(12, affine=True)
        self.plain_instance = nn.InstanceNorm2d(12)
        self.layer = nn.LayerNorm([10, 8])
        self.last = nn.LayerNorm(8, elementwise_affine=False)
        self.batch = nn.BatchNorm2d(12)
        self.response = nn.LocalResponseNorm(5, alpha=0.01, beta=0.75, k=1.5)
        for module in (self.group, self.instance, self.layer, self.batch):
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias, 0.0, 0.3)
        self.batch.running_mean.normal_()
        self.batch.running_var.uniform_(0.3, 2.0)

    def forward(self, x):
        rms = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return (
            self.group(x), self.instance(x), self.plain_instance(x), self.layer(x), self.last(x), self.batch(x),
            self.response(x), F.normalize(x, dim=1), rms, x.var(dim=(2, 3), unbiased=False), x.std(dim=1),
        )  # fmt: skip


class Pools(nn.Module):
    def forward(self, x):
        return (
            F.max_pool2d(x, 3, stride=2, ceil_mode=True), F.max_pool2d(x, (3, 2), stride=(2, 1), padding=(1, 1)),
            F.avg_pool2d(x, 3, stride=2, padding=1), F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False),
            F.avg_pool2d(x, (2, 3), stride=2, ceil_mode=True), F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1),
            F.adaptive_avg_pool2d(x, (5, 7)), F.max_pool1d(x.flatten(2), 5, stride=3, padding=2),
            F.avg_pool3d(x[:, None], 2), F.max_pool3d(x[:, None], (2, 3, 2), stride=(1, 2, 2)),
        )  # fmt: skip


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolutions = nn.ModuleList(
            [
                nn.Conv2d(8, 12, (3, 5), stride=(2, 1), padding=(1, 2)),
                nn.Conv2d(8, 12, 3, padding="same", dilation=2, groups=4),
                nn.Conv2d(8, 16, 3, padding=1, groups=8, bias=False),
                nn.Conv2d(8, 6, 1, stride=2),
                nn.Conv2d(8, 6, 7, padding=3, padding_mode="reflect"),
                nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1),
                nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1, groups=4),
                nn.ConvTranspose2d(8, 8, 3, stride=1, dilation=2, groups=8, bias=False),
                nn.ConvTranspose2d(8, 4, (2, 3), stride=(3, 2)),
            ]
        )
        self.line = nn.Conv1d(8, 10, 4, stride=3, padding=2)
        self.line_up = nn.ConvTranspose1d(8, 6, 5, stride=3, padding=1)
        self.volume = nn.Conv3d(1, 4, (2, 3, 3), stride=(1, 2, 1), padding=(0, 1, 1))
        self.volume_up = nn.ConvTranspose3d(4, 2, 2, stride=2)

    def forward(self, x):
        volume = self.volume(x[:, None])
        flat = [convolution(x) for convolution in self.convolutions]
        return (*flat, self.line(x.flatten(2)), self.line_up(x[:, :, 0]), volume, self.volume_up(volume))


class Resizes(nn.Module):
    def forward(self, x):
        theta = torch.tensor([[[0.8, -0.2, 0.1], [0.15, 0.9, -0.05]]]).expand(x.shape[0], 2, 3)
        grid = F.affine_grid(theta, (x.shape[0], x.shape[1], 9, 11), align_corners=False)
        corner_grid = F.affine_grid(theta, (x.shape[0], x.shape[1], 7, 6), align_corners=True)
        return (
            F.interpolate(x, scale_factor=2, mode="nearest"),
            F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
            F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
            F.interpolate(x, size=(13, 17), mode="bilinear", align_corners=True),
            F.interpolate(x, size=(5, 7), mode="bilinear", align_corners=False),
            F.interpolate(x, size=(21, 16), mode="nearest"),
            F.interpolate(x, scale_factor=(1.5, 2.5), mode="bilinear", align_corners=False, recompute_scale_factor=True),
            F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False),
            F.grid_sample(x, corner_grid, mode="bilinear", padding_mode="zeros", align_corners=True),
        )


class Shapes(nn.Module):
    """Moving data about: nothing here computes much."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 5)

    def forward(self, x, index):
        a, b, c = torch.split(x, [2, 1, 3], dim=1)
        first, second = torch.chunk(x, 2, dim=2)
        return (
            torch.cat([c, b, a], dim=1), torch.stack([first, second], dim=1), x.repeat(1, 2, 1, 3), x.flip(1, 3),
            F.pad(x, (1, 2, 0, 3), value=0.5), F.pad(x, (2, 1, 1, 2), mode="reflect"), F.pad(x, (1, 1, 2, 0), mode="replicate"),
            x[:, ::2, 1:-1:3, -5:], x[:, -1], x[..., 2:7:2], x.permute(3, 1, 0, 2), x.transpose(1, 2).reshape(1, 8, -1),
            x.unsqueeze(1).squeeze(0), F.pixel_shuffle(x[:, :4], 2), x.roll(2, dims=3),
            self.embedding(index), torch.index_select(x, 1, index[0] % 6), x[:, :, :1].expand(-1, -1, 4, -1),
            torch.gather(x, 3, (index[:, None, None, :] % 8).expand(1, 6, 8, 4).to(torch.int64)),
            torch.tril(x), torch.triu(x[0, 0], diagonal=1), F.one_hot(index.to(torch.int64), 11),
            x.unbind(2)[3], x.narrow(3, 1, 4), torch.meshgrid(x[0, 0, 0], x[0, 1, 0], indexing="ij")[1],
        )  # fmt: skip


class Reductions(nn.Module):
    def forward(self, x):
        values, places = torch.topk(x, 3, dim=-1)
        ordered, order = torch.sort(x, dim=1, descending=True)
        return (
            x.sum(dim=1), x.mean(dim=(2, 3), keepdim=True), x.amax(dim=2), x.amin(dim=(1, 3)), 
            torch.logsumexp(x, dim=1), x.norm(dim=2), x.norm(p=1, dim=3), x.cumsum(dim=2), x.argmax(dim=1), x.argmin(dim=3),
            values, places, ordered, order, x.argsort(dim=2), x.mean(), x.max(dim=1)[0], x.max(dim=1)[1], (x > 0).any(dim=3),
        )  # fmt: skip


class Elementwise(nn.Module):
    def forward(self, x, y):
        positive = y.abs() + 0.1
        return (
            x + y, x - y, x * y, x / positive, torch.maximum(x, y), torch.minimum(x, y), torch.floor_divide(x, positive),
            torch.remainder(x, positive), positive.pow(x), x.clamp(-0.5, 0.7), x.clamp(min=0.1), x.exp(), torch.exp2(x),
            positive.log(), positive.sqrt(), positive.rsqrt(), x.sin(), x.cos(), x.tan(), torch.atan(x), torch.asin(x.tanh()),
            torch.acos(x.tanh()), x.sinh(), x.cosh(), torch.atanh(x.tanh() * 0.9), x.floor(), x.ceil(), x.round(), x.sign(),
            x.square(), -x, x.abs(), torch.where(x > y, x, y * 2), (x >= y).float(), (x < y).float(),
            (x <= 0).float(), torch.logical_and(x > 0, y > 0).float(), torch.logical_xor(x > 0, y > 0).float(),
            torch.logical_not(x > 0).float(), (x.round() == y.round()).float(), (x.round() != y.round()).float(),
            x.masked_fill(y > 0, -3.0), torch.log1p(positive), torch.atan2(x, positive), (x * 3).int(),
        )  # fmt: skip


class Products(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(12, 7)
        self.plain = nn.Linear(12, 9, bias=False)
        self.bilinear = nn.Parameter(torch.randn(12, 12) * 0.3)

    def forward(self, x, y):
        return (
            self.linear(x), self.plain(x), x @ y.transpose(-1, -2), x.transpose(-1, -2) @ y, torch.bmm(x[0], y[0].transpose(1, 2)),
            torch.einsum("bhqd,bhkd->bhqk", x, y), torch.einsum("bhqd,hkd->bhqk", x, y[0]),
            torch.einsum("bhqd,de->bhqe", x, self.bilinear), torch.baddbmm(x[0] @ x[0].transpose(1, 2), x[0], y[0].transpose(1, 2), alpha=0.5),
            torch.addmm(y[0, 0, :, :7], x[0, 0], self.linear.weight.T), torch.outer(x[0, 0, 0], y[0, 0, 0]),
        )  # fmt: skip


class Accumulator(nn.Module):
    """A stateful network: it adds each input to a running total and returns the total's square root of squares."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(4, 6, dtype=torch.float16))

    def forward(self, x):
        self.total.add_(x.to(torch.float16))
        return self.total.float() * 2.0 + 1.0


class KeyValueCache(nn.Module):
    """One attention step over a cache that it writes at `position`: the shape of a decoder's inner loop."""

    def __init__(self, width=16, length=12):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.register_buffer("key_cache", torch.zeros(1, length, width, dtype=torch.float16))
        self.register_buffer("value_cache", torch.zeros(1, length, width, dtype=torch.float16))

    def forward(self, x, mask):
        end = mask.shape[-1]
        begin = end - x.shape[1]
        self.key_cache[:, begin:end] = self.key(x).to(torch.float16)
        self.value_cache[:, begin:end] = self.value(x).to(torch.float16)
        keys, values = self.key_cache[:, :end].float(), self.value_cache[:, :end].float()
        return F.scaled_dot_product_attention(self.query(x), keys, values, attn_mask=mask)


class Affine(nn.Module):
    """One linear layer and a scale; two of them that share weights make a package of two functions."""

    def __init__(self, linear, scale):
        super().__init__()
        self.linear, self.scale = linear, scale

    def forward(self, x):
        return torch.tanh(self.linear(x)) * self.scale
