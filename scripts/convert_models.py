#!/usr/bin/env python3
"""Convert PyTorch networks to Core ML packages with coremltools, with reference inputs and outputs beside each.

    python scripts/fetch_models.py
    python scripts/convert_models.py [--models target/models] [--only GLOB] [--list]

For every model NAME it writes under MODELS/converted:

    NAME.mlpackage          the package
    NAME.inputs/F.npy       one array for each input feature F; an image is float32 [1, C, H, W] of values 0 to 255
    NAME.outputs/F.npy      one array for each output feature F, computed by PyTorch in float32; a classifier's
                            probabilities are under the network's own output, [1, classes] in the order of the labels
    NAME.stepN.inputs, NAME.stepN.outputs   (stateful models) further predictions with the same state

Models whose name ends in `-fp16` compute in float16: their references are still those of the float32 network.
"""

import argparse
import fnmatch
import shutil
import sys
import traceback
from functools import partial
from pathlib import Path

from packages import save_package, save_reference  # isort: skip  (first: it silences what follows)

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import torch
import torchvision
from PIL import Image

import networks
from fetch_models import DEFAULT_OUT
from mil_oracle import Model, load_arrays

FP32, FP16 = ct.precision.FLOAT32, ct.precision.FLOAT16
IOS15, IOS16, IOS17, IOS18 = ct.target.iOS15, ct.target.iOS16, ct.target.iOS17, ct.target.iOS18
TEXT = "The mill grinds what the river brings. A miller keeps the stones level, and the flour is fine."
LABELS = [f"thing {index:04}" for index in range(1000)]


class Context:
    """Where things are, and the photos that all networks see."""

    def __init__(self, models):
        self.models = models
        self.out = models / "converted"

    def photo(self, name, height, width=None):
        """A photo as float32 [1, 3, height, width], values 0 to 255."""
        image = Image.open(self.models / "data" / f"{name}.png").convert("RGB").resize((width or height, height), Image.BICUBIC)
        return torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1).copy())[None]

    def crops(self, size, count=16):
        """Random photo crops [count, 3, size, size], values about -1 to 1."""
        generator = torch.Generator().manual_seed(3)
        crops = []
        for index in range(count):
            photo = self.photo(("astronaut", "chelsea", "coffee", "motorcycle_left")[index % 4], 320)
            top, left = torch.randint(0, 320 - size, (2,), generator=generator).tolist()
            crops.append(photo[:, :, top : top + size, left : left + size])
        return torch.cat(crops) / 127.5 - 1.0


def output_types(outputs):
    return [ct.TensorType(name=name) for name in outputs]


def trace(module, inputs):
    with torch.no_grad():
        return torch.jit.trace(module.eval(), tuple(inputs.values()))


def run(module, inputs, outputs):
    with torch.no_grad():
        results = module(*inputs.values())
    results = results if isinstance(results, tuple) else (results,)
    return dict(zip(outputs, (result.numpy() for result in results), strict=True))


def tensor_types(inputs, shapes=None):
    shapes = shapes or {}
    numpy_type = {torch.int32: np.int32, torch.float32: np.float32}
    return [
        ct.TensorType(name, shape=shapes.get(name, tuple(value.shape)), dtype=numpy_type[value.dtype])
        for name, value in inputs.items()
    ]


def write(context, name, module, inputs, outputs, precision=FP32, target=IOS15, shapes=None, **options):
    """Convert `module` and save package and references; `inputs` maps feature names to example tensors."""
    options.setdefault("inputs", tensor_types(inputs, shapes))
    if "classifier_config" not in options:
        options.setdefault("outputs", output_types(outputs))
    model = ct.convert(
        trace(module, inputs), compute_precision=precision, minimum_deployment_target=target,
        skip_model_load=True, **options,
    )  # fmt: skip
    path = context.out / f"{name}.mlpackage"
    save_package(model, path)
    reference = run(module, inputs, outputs)
    if "classifier_config" in options:
        reference = {classifier_probabilities(model): next(iter(reference.values()))}
    save_reference(path, {key: value.numpy() for key, value in inputs.items()}, as_declared(model, reference))
    return model


def classifier_probabilities(model):
    """The name of the tensor that a classifier's `classify` operation takes."""
    (function,) = model.get_spec().mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    (classify,) = (operation for operation in block.operations if operation.type == "classify")
    return classify.inputs["probabilities"].arguments[0].name


def as_declared(model, outputs):
    """`outputs` in the element types that the package declares (PyTorch has int64 and bool where Core ML has int32)."""
    types = {}
    for feature in model.get_spec().description.output:
        kind = feature.type.multiArrayType.dataType
        types[feature.name] = np.int32 if kind == feature.type.multiArrayType.INT32 else np.float32
    return {name: array.astype(types.get(name, np.float32)) for name, array in outputs.items()}


def minilm(context, name, fused=False, flexible=False, **options):
    folder = context.models / "minilm"
    ids, mask = networks.word_pieces(TEXT, folder / "vocab.txt", 128)
    inputs = {"input_ids": ids, "attention_mask": mask}
    shapes = None
    if flexible:
        shape = ct.Shape((1, ct.RangeDim(1, 512, default=128)))
        shapes = {key: shape for key in inputs}
    module = networks.MiniLM.load(folder, fused)
    write(context, name, module, inputs, ["last_hidden_state", "embedding"], shapes=shapes, **options)
    if flexible:
        ids, mask = networks.word_pieces(TEXT, folder / "vocab.txt", 23)
        save_further(context, f"{name}.length23", module, {"input_ids": ids, "attention_mask": mask},
                     ["last_hidden_state", "embedding"])  # fmt: skip


def save_further(context, name, module, inputs, outputs):
    """References for a further shape of a model that was converted before."""
    arrays = {key: value.numpy() for key, value in inputs.items()}
    save_reference(context.out / f"{name}.mlpackage", arrays, run(module, inputs, outputs))


def vision(context, build, size, seed=7):
    torch.manual_seed(seed)
    return networks.with_statistics(build(), context.crops(size))


def classifier(context, name, build, size, **options):
    """A network from float32 [1, 3, size, size] to 1,000 logits."""
    image = context.photo("astronaut", size) / 127.5 - 1.0
    write(context, name, vision(context, build, size), {"image": image}, ["logits"], **options)


def photo_classifier(context, name, build, size, layout="RGB", **options):
    """As `classifier`, but an image goes in, and a label and its probabilities come out."""
    module = networks.Probabilities(vision(context, build, size))
    order = ct.colorlayout.RGB if layout == "RGB" else ct.colorlayout.BGR
    image = ct.ImageType("image", shape=(1, 3, size, size), scale=1 / 127.5, bias=[-1, -1, -1], color_layout=order)
    pixels = context.photo("astronaut", size).round().clamp(0, 255)
    if layout == "BGR":
        pixels = pixels.flip(1)
    model = ct.convert(
        trace(module, {"image": pixels}), inputs=[image], classifier_config=ct.ClassifierConfig(LABELS),
        minimum_deployment_target=options.get("target", IOS15), compute_precision=options.get("precision", FP32),
        skip_model_load=True,
    )  # fmt: skip
    path = context.out / f"{name}.mlpackage"
    save_package(model, path)
    reference = run(module, {"image": pixels / 127.5 - 1.0}, [classifier_probabilities(model)])
    save_reference(path, {"image": pixels.numpy()}, reference)


def image_to_image(context, name, build, size, **options):
    """An image goes in and an image comes out: the network ends in values 0 to 255."""

    class Scaled(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, image):
            return (self.network(image) + 1.0) * 127.5

    module = Scaled(vision(context, build, size))
    pixels = context.photo("coffee", size).round().clamp(0, 255)
    model = ct.convert(
        trace(module, {"image": pixels}),
        inputs=[ct.ImageType("image", shape=tuple(pixels.shape), scale=1 / 127.5, bias=[-1, -1, -1])],
        outputs=[ct.ImageType("result", color_layout=ct.colorlayout.RGB)],
        minimum_deployment_target=IOS16, skip_model_load=True, **options,
    )  # fmt: skip
    path = context.out / f"{name}.mlpackage"
    save_package(model, path)
    save_reference(path, {"image": pixels.numpy()}, run(module, {"image": pixels / 127.5 - 1.0}, ["result"]))


def simple(context, name, build, shapes, count, seed=11, **options):
    """A network over seeded normal inputs; outputs are named out_00, out_01, …"""
    torch.manual_seed(seed)
    module = build().eval()
    inputs = {key: torch.randn(shape) for key, shape in shapes.items()}
    outputs = [f"out_{index:02}" for index in range(count)]
    write(context, name, module, inputs, outputs, **options)


def unet(context, name, align_corners=False, **options):
    module = vision(context, partial(networks.UNet, align_corners), 64)
    write(context, name, module, {"image": context.photo("chelsea", 64) / 127.5 - 1.0}, ["mask"], **options)


def resizable(context, name, **options):
    """A fully convolutional network for two enumerated sizes."""
    module = vision(context, networks.UNet, 64)
    sizes = [(1, 3, 64, 64), (1, 3, 96, 128)]
    image = context.photo("chelsea", 64) / 127.5 - 1.0
    shapes = {"image": ct.EnumeratedShapes(shapes=sizes, default=sizes[0])}
    write(context, name, module, {"image": image}, ["mask"], shapes=shapes, **options)
    wide = context.photo("chelsea", 96, 128) / 127.5 - 1.0
    save_further(context, f"{name}.wide", module, {"image": wide}, ["mask"])


def audio(context, name, **options):
    torch.manual_seed(5)
    module = networks.AudioNet().eval()
    samples = np.frombuffer((context.models / "data/speech-8khz-s16.raw").read_bytes(), np.int16)
    waveform = torch.from_numpy(samples[:4000].astype(np.float32) / 32768.0).reshape(1, 1, 4000) * 8.0
    write(context, name, module, {"waveform": waveform}, ["logits", "peaks"], **options)


def shapes_network(context, name, **options):
    torch.manual_seed(2)
    module = networks.Shapes().eval()
    inputs = {"x": torch.randn(1, 6, 8, 8), "index": torch.tensor([[3, 0, 7, 5]], dtype=torch.int32)}
    count = len(module(*inputs.values()))
    write(context, name, module, inputs, [f"out_{index:02}" for index in range(count)], **options)


def stateful(context, name, module, steps, states, outputs, shapes=None):
    """A model with state; `steps` are the inputs of successive predictions."""
    module.eval()
    initial = {key: value.clone() for key, value in module.state_dict().items()}
    traced = trace(module, steps[0])
    model = ct.convert(
        traced, inputs=tensor_types(steps[0], shapes), outputs=output_types(outputs),
        states=[ct.StateType(ct.TensorType(shape=shape, dtype=np.float16), name=state) for state, shape in states.items()],
        minimum_deployment_target=IOS18, compute_precision=FP32, skip_model_load=True,
    )  # fmt: skip
    save_package(model, context.out / f"{name}.mlpackage")
    module.load_state_dict(initial)
    for index, inputs in enumerate(steps):
        step = name if index == 0 else f"{name}.step{index}"
        save_further(context, step, module, inputs, outputs)


def accumulator(context, name):
    torch.manual_seed(1)
    steps = [{"x": torch.randn(4, 6)} for _ in range(3)]
    stateful(context, name, networks.Accumulator(), steps, {"total": (4, 6)}, ["out"])


def key_value_cache(context, name):
    torch.manual_seed(1)
    module = networks.KeyValueCache()
    steps = []
    for begin, length in ((0, 5), (5, 1), (6, 1)):
        end = begin + length
        mask = torch.full((length, end), -10000.0).triu(begin + 1)[None]
        steps.append({"x": torch.randn(1, length, 16), "mask": mask})
    shapes = {
        "x": ct.Shape((1, ct.RangeDim(1, 12, default=5), 16)),
        "mask": ct.Shape((1, ct.RangeDim(1, 12, default=5), ct.RangeDim(1, 12, default=5))),
    }
    states = {"key_cache": (1, 12, 16), "value_cache": (1, 12, 16)}
    stateful(context, name, module, steps, states, ["out"], shapes)


def two_functions(context, name):
    torch.manual_seed(1)
    linear = torch.nn.Linear(64, 64)
    x = {"x": torch.randn(1, 64)}
    descriptor = ct.utils.MultiFunctionDescriptor()
    parts = []
    for function, scale in (("double", 2.0), ("half", 0.5)):
        part = context.out / f".{name}-{function}.mlpackage"
        module = networks.Affine(linear, scale)
        save_package(
            ct.convert(trace(module, x), inputs=tensor_types(x), outputs=output_types(["y"]), compute_precision=FP32,
                       minimum_deployment_target=IOS18, skip_model_load=True), part)  # fmt: skip
        descriptor.add_function(str(part), src_function_name="main", target_function_name=function)
        parts.append(part)
        save_further(context, f"{name}.{function}", module, x, ["y"])
    descriptor.default_function_name = "double"
    ct.utils.save_multifunction(descriptor, str(context.out / f"{name}.mlpackage"))
    for part in parts:
        shutil.rmtree(part)
    save_further(context, name, networks.Affine(linear, 2.0), x, ["y"])


def nmp(context, name):
    """References for basic-pitch's own package, computed by onnxruntime from its ONNX form: speech, and noise."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(context.models / "nmp.onnx"), providers=["CPUExecutionProvider"])
    samples = np.frombuffer((context.models / "data/speech-8khz-s16.raw").read_bytes(), np.int16) / 32768.0
    positions = np.arange(43844) * 8000 / 22050
    speech = np.interp(positions, np.arange(len(samples)), samples, right=0.0)
    noise = np.random.default_rng(5).normal(0.0, 0.1, 43844)
    for suffix, audio in (("", speech), (".noise", noise)):
        audio = audio.astype(np.float32).reshape(1, -1, 1)
        found = dict(zip((o.name for o in session.get_outputs()),
                         session.run(None, {session.get_inputs()[0].name: audio}), strict=True))  # fmt: skip
        oracle = Model(context.models / "nmp.mlpackage").predict({"input_2": audio})
        # The two forms name their outputs differently; the last two have one shape, so match each by value.
        reference = {}
        for feature in oracle:
            same = [array for array in found.values() if array.shape == oracle[feature].shape]
            reference[feature] = min(same, key=lambda array: np.abs(array - oracle[feature]).max())
        save_reference(context.out / f"{name}{suffix}.mlpackage", {"input_2": audio}, reference)


def pipersr(context, name):
    """References for PiperSR, which comes without its network: by the oracle, in float32 and rounded to float16."""
    pixels = context.photo("chelsea", 128).round().clamp(0, 255).numpy()
    package = context.models / "PiperSR_2x.mlpackage"
    for suffix, rounding in (("", False), (".rounded", True)):
        reference = Model(package, rounding=rounding).predict({"input_image": pixels})
        save_reference(context.out / f"{name}{suffix}.mlpackage", {"input_image": pixels}, reference)


def compressed(context, name, base, compress):
    """Another model's weights compressed by coremltools; the reference runs what its decompress_weights gives back."""
    arrays = load_arrays(context.out / f"{base}.inputs")
    model = ct.models.MLModel(str(context.out / f"{base}.mlpackage"), skip_model_load=True)
    model = compress(model)
    path = context.out / f"{name}.mlpackage"
    save_package(model, path)
    plain = context.out / f".{name}.mlpackage"
    save_package(cto.decompress_weights(ct.models.MLModel(str(path), skip_model_load=True)), plain)
    save_reference(path, arrays, {k: v for k, v in Model(plain).predict(arrays).items() if isinstance(v, np.ndarray)})
    shutil.rmtree(plain)


def palettized(model, **options):
    return cto.palettize_weights(model, cto.OptimizationConfig(cto.OpPalettizerConfig(weight_threshold=256, **options)))


def quantized(model, **options):
    config = cto.OpLinearQuantizerConfig(weight_threshold=256, **options)
    return cto.linear_quantize_weights(model, cto.OptimizationConfig(config))


def pruned(model, **options):
    config = cto.OpMagnitudePrunerConfig(weight_threshold=256, **options)
    return cto.prune_weights(model, cto.OptimizationConfig(config))


def pruned_palettized(model):
    pruned_model = pruned(model, target_sparsity=0.5)
    config = cto.OpPalettizerConfig(weight_threshold=256, mode="kmeans", nbits=4)
    return cto.palettize_weights(pruned_model, cto.OptimizationConfig(config), joint_compression=True)


def pruned_quantized(model):
    pruned_model = pruned(model, target_sparsity=0.5)
    config = cto.OpLinearQuantizerConfig(weight_threshold=256)
    return cto.linear_quantize_weights(pruned_model, cto.OptimizationConfig(config), joint_compression=True)


def models():
    """NAME -> function(context, name)."""
    tv = torchvision.models
    table = {
        "minilm": partial(minilm),
        "minilm-fp16": partial(minilm, precision=FP16),
        "minilm-ios18": partial(minilm, fused=True, target=IOS18),
        "minilm-ios18-fp16": partial(minilm, fused=True, target=IOS18, precision=FP16),
        "minilm-flexible": partial(minilm, flexible=True, target=IOS16),
        "mobilenet_v2": partial(classifier, build=tv.mobilenet_v2, size=224),
        "mobilenet_v2-fp16": partial(classifier, build=tv.mobilenet_v2, size=224, precision=FP16),
        "mobilenet_v2-photo": partial(photo_classifier, build=tv.mobilenet_v2, size=224),
        "mobilenet_v2-photo-bgr-fp16": partial(
            photo_classifier, build=tv.mobilenet_v2, size=128, layout="BGR", precision=FP16, target=IOS17),
        "mobilenet_v3_small": partial(classifier, build=tv.mobilenet_v3_small, size=128),
        "resnet18": partial(classifier, build=tv.resnet18, size=128),
        "resnet18-fp16-ios17": partial(classifier, build=tv.resnet18, size=128, precision=FP16, target=IOS17),
        "squeezenet": partial(classifier, build=tv.squeezenet1_1, size=128),
        "shufflenet": partial(classifier, build=tv.shufflenet_v2_x0_5, size=128),
        "efficientnet_b0": partial(classifier, build=tv.efficientnet_b0, size=128),
        "unet": partial(unet),
        "unet-corners-ios17": partial(unet, align_corners=True, target=IOS17),
        "unet-enumerated": partial(resizable, target=IOS16),
        "squeeze_reflect-image": partial(image_to_image, build=networks.SqueezeReflect, size=48),
        "squeeze_reflect-image-fp32": partial(
            image_to_image, build=networks.SqueezeReflect, size=48, compute_precision=FP32),
        "audio": partial(audio),
        "audio-fp16": partial(audio, precision=FP16, target=IOS16),
        "shapes": partial(shapes_network),
        "shapes-ios17": partial(shapes_network, target=IOS17),
        "accumulator": partial(accumulator),
        "key_value_cache": partial(key_value_cache),
        "two_functions": partial(two_functions),
    }  # fmt: skip
    for suffix, target, fused in (("", IOS15, False), ("-ios18", IOS18, True)):
        table[f"vit{suffix}"] = partial(vit, fused=fused, target=target)
    plain = {
        "activations": (networks.Activations, {"x": (2, 6, 5, 7)}, 3),
        "norms": (networks.Norms, {"x": (2, 12, 10, 8)}, 11),
        "pools": (networks.Pools, {"x": (1, 4, 11, 14)}, 11),
        "convolutions": (networks.Convolutions, {"x": (1, 8, 12, 11)}, 13),
        "resizes": (networks.Resizes, {"x": (2, 3, 8, 10)}, 9),
        "reductions": (networks.Reductions, {"x": (2, 5, 4, 6)}, 19),
        "elementwise": (networks.Elementwise, {"x": (3, 4, 5), "y": (3, 4, 5)}, 45),
        "products": (networks.Products, {"x": (2, 3, 5, 12), "y": (2, 3, 5, 12)}, 11),
        "recurrent": (networks.Recurrent, {"sequence": (1, 9, 20)}, 3),
    }
    for name, (build, shapes, count) in plain.items():
        for suffix, target in (("", IOS15), ("-ios17", IOS17)):
            table[name + suffix] = partial(simple, build=build, shapes=shapes, count=count, target=target)
    table["unet-ios18"] = partial(unet, target=IOS18)
    table |= {"nmp": nmp, "PiperSR_2x": pipersr}
    compressions = {
        "unet-palette4": ("unet", partial(palettized, mode="kmeans", nbits=4)),
        "unet-palette6": ("unet", partial(palettized, mode="kmeans", nbits=6)),
        "unet-palette8": ("unet", partial(palettized, mode="uniform", nbits=8)),
        "unet-palette2": ("unet", partial(palettized, mode="kmeans", nbits=2)),
        "unet-int8": ("unet", partial(quantized, mode="linear_symmetric")),
        "unet-uint8": ("unet", partial(quantized, mode="linear", dtype="uint8")),
        "unet-pruned": ("unet", partial(pruned, target_sparsity=0.6)),
        "unet-ios18-palette4-grouped": (
            "unet-ios18", partial(palettized, nbits=4, granularity="per_grouped_channel", group_size=8)),
        "unet-ios18-palette3": ("unet-ios18", partial(palettized, nbits=3)),
        "unet-ios18-palette4-vector": (
            "unet-ios18", partial(palettized, nbits=4, cluster_dim=2)),
        "vit-ios18-int4-blocks": (
            "vit-ios18", partial(quantized, dtype="int4", granularity="per_block", block_size=32)),
        "unet-ios18-int8": ("unet-ios18", partial(quantized, dtype="int8", granularity="per_tensor")),
        "unet-ios18-pruned": ("unet-ios18", partial(pruned, target_sparsity=0.6)),
        "unet-ios18-pruned-palette4": ("unet-ios18", pruned_palettized),
        "unet-ios18-pruned-int8": ("unet-ios18", pruned_quantized),
        "mobilenet_v2-int8": ("mobilenet_v2", partial(quantized, mode="linear_symmetric")),
        "mobilenet_v2-fp16-palette6": ("mobilenet_v2-fp16", partial(palettized, mode="uniform", nbits=6)),
        "vit-palette4": ("vit", partial(palettized, mode="kmeans", nbits=4)),
    }  # fmt: skip
    for name, (base, compress) in compressions.items():
        table[name] = partial(compressed, base=base, compress=compress)
    return table


def vit(context, name, fused, target):
    torch.manual_seed(4)
    image = context.photo("coffee", 64) / 127.5 - 1.0
    write(context, name, networks.ViT(fused).eval(), {"image": image}, ["logits"], target=target)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=DEFAULT_OUT, help="the folder that fetch_models.py filled")
    parser.add_argument("--only", default="*", help="names to convert, as a glob")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    arguments = parser.parse_args()
    chosen = {name: make for name, make in models().items() if fnmatch.fnmatch(name, arguments.only)}
    if arguments.list:
        print("\n".join(chosen))
        return
    if not (arguments.models / "minilm/model.safetensors").exists():
        sys.exit(f"{arguments.models} has no models yet: run scripts/fetch_models.py first")
    torch.set_num_threads(2)
    failed = []
    for name, make in chosen.items():
        try:
            make(Context(arguments.models), name)
            print(name, flush=True)
        except Exception as error:  # one model that coremltools refuses must not stop the others
            traceback.print_exc()
            print(f"{name}: FAILED: {type(error).__name__}: {error}", flush=True)
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
