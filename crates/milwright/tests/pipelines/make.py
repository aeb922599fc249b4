#!/usr/bin/env python3
"""Makes the pipelines of this folder, which mix models of all kinds, and what they are to give.

    python make.py      # needs coremltools 9.0, NumPy, PyTorch, torchvision, scikit-learn 1.5

coremltools builds the models; NumPy, PyTorch, torchvision and scikit-learn compute the results. A case is NAME.mlmodel, or
NAME.mlpackage where ML programs in it have weights, and NAME.json, in the form that `../classic/make.py` describes.
"""

import importlib.util
import json
import shutil
import tempfile
import warnings
from pathlib import Path

import coremltools as ct
import numpy as np
import torch
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder
from coremltools.proto import FeatureTypes_pb2, Model_pb2

warnings.filterwarnings("ignore")
HERE = Path(__file__).parent
loader = importlib.util.spec_from_file_location("classic", HERE.parent / "classic" / "make.py")
classic = importlib.util.module_from_spec(loader)
loader.loader.exec_module(classic)
specification, declare, plain, converted = classic.specification, classic.declare, classic.plain, classic.converted

RNG = np.random.default_rng(5)
CASES = {}
NAMES = []
ARRAY = FeatureTypes_pb2.ArrayFeatureType
IMAGE = FeatureTypes_pb2.ImageFeatureType


def case(make):
    CASES[make.__name__] = make
    return make


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


# --- the models that pipelines are made of


def network(inputs, outputs):
    features = [(name, datatypes.Array(*shape)) for name, shape in inputs.items()]
    return NeuralNetworkBuilder(features, [(name, None) for name in outputs], disable_rank5_shape_mapping=True)


def dense(weight, bias, source, target, relu=False):
    """A network of one layer, and of another one where what is below zero becomes zero."""
    outputs, inputs = weight.shape
    builder = network({source: (inputs,)}, [target])
    builder.add_inner_product("dense", weight, bias, inputs, outputs, True, source, "wide" if relu else target)
    if relu:
        builder.add_activation("relu", "RELU", "wide", target)
    builder.spec.description.output[0].type.multiArrayType.shape.extend([outputs])
    builder.spec.description.output[0].type.multiArrayType.dataType = ARRAY.DOUBLE
    return builder.spec


def program(module, shapes, outputs, **options):
    """An ML program in single precision, and its weights."""
    example = tuple(torch.zeros(shape) for shape in shapes.values())
    inputs = [ct.TensorType(name=name, shape=shape) for name, shape in shapes.items()]
    options = {"inputs": inputs, "minimum_deployment_target": ct.target.iOS16, **options}
    return ct.convert(
        torch.jit.trace(module.eval(), example), outputs=[ct.TensorType(name=name) for name in outputs],
        compute_precision=ct.precision.FLOAT32, skip_model_load=True, **options)


def vectorizer(columns, target):
    """Numbers, arrays and dictionaries side by side; columns: name to its kind and how long it is."""
    spec = specification({name: kind for name, (kind, _) in columns.items()},
                         {target: [sum(size for _, size in columns.values())]}, 1)
    for name, (_, size) in columns.items():
        spec.featureVectorizer.inputList.add(inputColumn=name, inputDimensions=size)
    return spec


def scaler(shift, scale, source, target):
    spec = specification({source: [len(shift)]}, {target: [len(shift)]}, 1)
    spec.scaler.shiftValue.extend(shift)
    spec.scaler.scaleValue.extend(scale)
    return spec


def colors(source, target):
    spec = specification({source: "text"}, {target: [3]}, 1)
    spec.oneHotEncoder.stringCategories.vector.extend(["red", "green", "blue"])
    spec.oneHotEncoder.handleUnknown = 1
    return spec


def line(weights, offset, source, target):
    spec = specification({source: [len(weights)]}, {target: "double"}, 1)
    spec.glmRegressor.weights.add().value.extend(weights)
    spec.glmRegressor.offset.append(offset)
    spec.description.predictedFeatureName = target
    return spec


# --- pipelines


class Whole:
    """A specification and the weight files that it refers to."""

    def __init__(self, spec, weights=None):
        self.spec, self.weights = spec, weights or {}


def whole(model):
    """What a pipeline is made of: a specification, or what coremltools converted, with its weights."""
    if isinstance(model, Whole):
        return model
    if isinstance(model, Model_pb2.Model):
        return Whole(model)
    # Each program has a file of its own: its name is as long as the old one, so that the message stays whole.
    NAMES.append(f"net-{len(NAMES):02}.bin")
    data = model.get_spec().SerializeToString().replace(b"/weight.bin", f"/{NAMES[-1]}".encode())
    weights = Path(model.weights_dir) / "weight.bin"
    return Whole(Model_pb2.Model.FromString(data), {NAMES[-1]: weights.read_bytes()} if weights.exists() else {})


def pipeline(kind, models, inputs, outputs, predicted=None, names=()):
    """A pipeline of a type. `outputs` are taken from its models; inputs are declared as the model that takes them does."""
    top = Model_pb2.Model(specificationVersion=1)
    chain = top.pipeline if kind == "pipeline" else getattr(top, f"pipeline{kind.title()}").pipeline
    models, weights = [whole(model) for model in models], {}
    for model in models:
        part = chain.models.add()
        part.CopyFrom(model.spec)
        weights |= model.weights
        top.specificationVersion = max(top.specificationVersion, part.specificationVersion)
    chain.names.extend(names)
    for model in chain.models:
        for feature in (*model.description.input, *model.description.output):
            if feature.type.multiArrayType.dataType == ARRAY.FLOAT32:
                fit(chain.models, feature.name, feature.type)
    features = lambda side: {f.name: f for m in reversed(chain.models) for f in getattr(m.description, side)}
    last = {f.name: f for m in chain.models for f in m.description.output}
    top.description.input.extend(features("input")[name] for name in inputs)
    top.description.output.extend((last | {n: features("input")[n] for n in outputs if n not in last})[n] for n in outputs)
    if predicted:
        top.description.predictedFeatureName = predicted[0]
        top.description.predictedProbabilitiesName = predicted[1] if len(predicted) > 1 else ""
    return Whole(top, weights)


def fit(models, name, kind):
    """Declares a feature everywhere as programs have it, which is what Core ML asks for: they know no arrays of doubles."""
    for model in models:
        for feature in (*model.description.input, *model.description.output):
            if feature.name == name:
                feature.type.CopyFrom(kind)
        chain = getattr(model, model.WhichOneof("Type"))
        chain = getattr(chain, "pipeline", chain)
        if hasattr(chain, "models"):
            fit(chain.models, name, kind)


def classified(model, rows):
    """What a classifier of scikit-learn says of each row."""
    chances = model.predict_proba(rows)
    return [(str(label), dict(zip(map(str, model.classes_), p))) for label, p in zip(model.predict(rows), chances)]


@case
def colors_network_trees():
    """A text, a number and an array become one vector, which is scaled, goes through a network, and is judged by trees. What the
    network gives is an output, too; what is predicted has a name of the user's."""
    from sklearn.tree import DecisionTreeClassifier

    weight, bias = normal(5, 6), normal(5)
    shift, scale = normal(6).astype(float), RNG.uniform(0.5, 2, 6)
    text = RNG.integers(0, 3, 80)
    age, sizes = RNG.uniform(0, 3, 80), RNG.standard_normal((80, 2))
    rows = np.concatenate([np.eye(3)[text], age[:, None], sizes], 1)
    hidden = np.maximum(((rows + shift) * scale).astype(np.float32) @ weight.T + bias, 0)
    kinds = np.array(["oak", "ash", "elm"])[(hidden[:, :3] + 0.1 * normal(80, 3)).argmax(1)]
    tree = DecisionTreeClassifier(max_depth=3, random_state=0).fit(hidden, kinds)
    trees = converted(tree, "hidden", ["verdict", "chances"])
    top = pipeline("classifier", [
        colors("color", "color_vector"),
        vectorizer({"color_vector": ([3], 3), "age": ("double", 1), "sizes": ([2], 2)}, "row"),
        scaler(shift, scale, "row", "scaled"),
        dense(weight, bias, "scaled", "hidden", relu=True),
        trees,
    ], ["color", "age", "sizes"], ["verdict", "chances", "hidden"], ["verdict", "chances"])
    name = lambda i: ["red", "green", "blue"][text[i]]
    results = classified(tree, hidden[:8])
    return top, [
        ({"color": name(i), "age": age[i], "sizes": sizes[i]}, {"verdict": label, "chances": p, "hidden": hidden[i]})
        for i, (label, p) in enumerate(results)
    ]


@case
def words_program_line():
    """Words become a dictionary of numbers, an array, what a program makes of it, and a price."""
    torch.manual_seed(1)
    words = ["good", "bad", "great", "dull"]
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    spec = specification({"words": "text to number"}, {"numbered": "int to number"}, 1)
    spec.dictVectorizer.stringToIndex.vector.extend(words)
    weights = RNG.standard_normal(3)
    top = pipeline("regressor", [
        spec, vectorizer({"numbered": ("int to number", 4)}, "row"), program(net, {"row": (4,)}, ["features"]),
        line(weights, 0.5, "features", "price"),
    ], ["words"], ["price"], ["price"], ["words", "row", "net", "line"])
    cases = []
    for text in ({"good": 1.0}, {"bad": 2.0, "dull": 1.0}, {"great": 0.5, "good": 3.0, "unheard": 7.0}, {}):
        row = torch.tensor([text.get(word, 0.0) for word in words])
        cases.append(({"words": text}, {"price": float(net(row).detach().double().numpy() @ weights + 0.5)}))
    return top, cases


@case
def nested():
    """A pipeline of a pipeline of numbers and a program, and of a classifier that is a pipeline of a network, a pipeline of a
    program, and logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    torch.manual_seed(2)
    first = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Sigmoid())
    third = torch.nn.Linear(5, 3)
    weight, bias = normal(5, 6), normal(5)
    shift, scale = RNG.standard_normal(4), RNG.uniform(0.5, 2, 4)
    x = RNG.standard_normal((60, 4))
    a = first(torch.from_numpy((x + shift) * scale).float())
    b = torch.from_numpy(weight) @ a.T + torch.from_numpy(bias)[:, None]
    d = third(b.T).detach().numpy()
    kinds = np.array(["low", "high"])[(d[:, 0] > np.median(d[:, 0])).astype(int)]
    # As a pipeline: coremltools fails at what it makes of logistic regression by itself.
    logistic = Pipeline([("line", LogisticRegression(multi_class="ovr"))]).fit(d, kinds)
    inner = pipeline("pipeline", [program(third, {"b": (5,)}, ["d"])], ["b"], ["d"])
    judge = pipeline("classifier", [
        dense(weight, bias, "a", "b"), inner, converted(logistic, "d", ["kind", "chance"]),
    ], ["a"], ["d", "kind", "chance"], ["kind", "chance"], ["net", "inside", "judge"])
    front = pipeline("pipeline", [scaler(shift, scale, "x", "scaled"), program(first, {"scaled": (4,)}, ["a"])], ["x"], ["a"])
    top = pipeline("pipeline", [front, judge], ["x"], ["kind", "chance", "d"], names=["front", "judge"])
    results = classified(logistic, d[:5])
    return top, [({"x": x[i]}, {"kind": k, "chance": p, "d": d[i]}) for i, (k, p) in enumerate(results)]


@case
def skips():
    """One name for several things: what is given, what a network makes of it, and what becomes of that. A feature goes past
    models that do not take it, and some that are made are taken by nobody. An input is an output as it is."""
    weight, bias, other = normal(3, 3), normal(3), normal(3, 3)
    builder = network({"x": (3,)}, ["y", "wasted"])
    builder.add_inner_product("dense", weight, bias, 3, 3, True, "x", "y")
    builder.add_unary("square", "x", "wasted", "power", 2.0)
    for output in builder.spec.description.output:
        output.type.multiArrayType.shape.extend([3])
        output.type.multiArrayType.dataType = ARRAY.DOUBLE
    last = network({"x": (3,), "y": (3,), "late": (3,)}, ["z"])
    last.add_inner_product("dense", other, None, 3, 3, False, "y", "t")
    last.add_elementwise("sum", ["t", "x", "late"], "z", "ADD")
    last.spec.description.output[0].type.multiArrayType.shape.extend([3])
    last.spec.description.output[0].type.multiArrayType.dataType = ARRAY.DOUBLE
    shift, scale = RNG.standard_normal(3), RNG.uniform(0.5, 2, 3)
    top = pipeline("pipeline", [builder.spec, scaler(shift, scale, "y", "y"), scaler(shift, scale, "x", "x"), last.spec],
                   ["x", "late"], ["z", "y", "late"])
    cases = []
    for _ in range(3):
        x, late = RNG.standard_normal(3), RNG.standard_normal(3)
        y = (weight @ x.astype(np.float32) + bias + shift) * scale
        cases.append(({"x": x, "late": late}, {"z": other @ y + (x + shift) * scale + late, "y": y, "late": late}))
    return top, cases


@case
def detector():
    """The usual form of exported detectors: a program takes an image, the boxes that overlap are dropped. The thresholds are
    optional. The classes are predicted in two steps."""
    torch.manual_seed(3)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 7, 4, 4)

        def forward(self, image):
            rows = torch.sigmoid(self.conv(image)).reshape(7, 16).T
            return rows[:, :3], rows[:, 3:] * 0.5

    net = Net()
    image = ct.ImageType(name="image", shape=(1, 3, 16, 16), scale=1 / 127.5, bias=[-1, -0.5, 0])
    model = program(net, {"image": (1, 3, 16, 16)}, ["raw_confidence", "raw_coordinates"], inputs=[image])
    nms = classic.suppression([16, 3], [16, 4], iou=0.45, least=0.6, dtype=ARRAY.FLOAT32)
    top = pipeline("pipeline", [model, nms], ["image", "iou", "least"], ["confidence", "coordinates"])
    cases = []
    for given in ({}, {"least": 0.55}, {"iou": 0.1, "least": 0.5}):
        pixels = RNG.integers(0, 256, (1, 3, 16, 16)).astype(np.float32)
        bias = np.array([-1, -0.5, 0], np.float32).reshape(3, 1, 1)
        confidence, boxes = (t.detach().numpy().astype(float) for t in net(torch.from_numpy(pixels / 127.5 + bias)))
        kept = classic.suppressed(confidence, boxes, given.get("iou", 0.45), given.get("least", 0.6), True)
        cases.append(({"image": pixels, **given}, kept))
    return top, cases


@case
def image_trees():
    """A network takes a grey image; trees, some of what it makes of that."""
    from sklearn.tree import DecisionTreeRegressor

    kernel = normal(2, 1, 3, 3)
    builder = network({"image": (1, 1, 6, 6)}, ["features"])
    builder.add_convolution("conv", 1, 2, 3, 3, 3, 3, "valid", 1, kernel.transpose(2, 3, 1, 0), None, False,
                            input_name="image", output_name="conv")
    builder.add_reshape_static("flat", "conv", "features", [8])
    builder.set_pre_processing_parameters(["image"], image_scale=1 / 255, gray_bias=-0.25)
    features = builder.spec.description.output[0].type.multiArrayType
    features.shape.extend([8])
    features.dataType = ARRAY.DOUBLE
    pixels = RNG.integers(0, 256, (80, 1, 6, 6)).astype(np.float32)
    made = torch.nn.functional.conv2d(torch.from_numpy(pixels / 255 - 0.25), torch.from_numpy(kernel), None, 3).numpy()
    made = made.reshape(80, 8)
    tree = DecisionTreeRegressor(max_depth=4, random_state=0).fit(made[:, [6, 1, 3]], made[:, 0] * made[:, 5])
    pick = specification({"features": [8]}, {"some": [3]}, 1)
    pick.arrayFeatureExtractor.extractIndex.extend([6, 1, 3])
    top = pipeline("regressor", [builder.spec, pick, converted(tree, "some", "weight")], ["image"], ["weight"], ["weight"])
    return top, [({"image": p[None]}, {"weight": float(w)}) for p, w in zip(pixels[:5], tree.predict(made[:5][:, [6, 1, 3]]))]


@case
def classes_within():
    """A network says how likely each class is. Its dictionary goes into a linear model, its label into an encoder; nobody takes
    what a second classifier says of these, but for the label. Classes are whole numbers there."""
    weight, bias = normal(3, 4), normal(3)
    names = ["red", "green", "blue"]
    builder = NeuralNetworkBuilder([("x", datatypes.Array(4))], [("p", None)], mode="classifier",
                                   disable_rank5_shape_mapping=True)
    builder.add_inner_product("dense", weight, bias, 4, 3, True, "x", "scores")
    builder.add_softmax_nd("softmax", "scores", "p", -1)
    builder.set_class_labels(names, predicted_feature_name="color", prediction_blob="p")
    spec = builder.spec
    spec.description.output[0].name = spec.description.predictedProbabilitiesName = "chances"
    spec.neuralNetworkClassifier.labelProbabilityLayerName = "p"
    spec.neuralNetworkClassifier.layers[-1].output[0] = "p"
    keyed = specification({"chances": "text to number"}, {"chance_row": [3]}, 1)
    keyed.dictVectorizer.stringToIndex.vector.extend(["blue", "red", "green"])
    last = specification({"rest": [6]}, {"step": "int", "odds": "int to number"}, 1)
    lines, offsets = RNG.standard_normal((3, 6)), RNG.standard_normal(3)
    for w, b in zip(lines, offsets):
        last.glmClassifier.weights.add().value.extend(w)
        last.glmClassifier.offset.append(b)
    last.glmClassifier.classEncoding = 1
    last.glmClassifier.int64ClassLabels.vector.extend([10, -20, 30])
    last.description.predictedFeatureName, last.description.predictedProbabilitiesName = "step", "odds"
    top = pipeline("classifier", [
        spec, keyed, colors("color", "color_row"), vectorizer({"color_row": ([3], 3), "chance_row": ([3], 3)}, "rest"), last,
    ], ["x"], ["step", "color", "chances"], ["color", "chances"])
    cases = []
    for _ in range(6):
        x = RNG.standard_normal(4) * 2
        scores = weight @ x.astype(np.float32) + bias
        p = np.exp(scores - scores.max()).astype(float)
        p /= p.sum()
        rest = np.concatenate([np.eye(3)[p.argmax()], p[[2, 0, 1]]])
        step = [10, -20, 30][int((lines @ rest + offsets).argmax())]
        cases.append(({"x": x}, {"step": step, "color": names[p.argmax()], "chances": dict(zip(names, p))}))
    return top, cases


@case
def table_of_words():
    """Texts become the rows of a program's table."""
    torch.manual_seed(4)
    words = ["a", "the", "cat", "mat"]
    mapping = specification({"words": "text"}, {"id": "int"}, 1)
    mapping.categoricalMapping.stringToInt64Map.map.update({word: i for i, word in enumerate(words)})
    mapping.categoricalMapping.int64Value = 3
    row = vectorizer({"id": ("int", 1)}, "row")
    net = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.GELU(), torch.nn.Linear(4, 4))
    top = pipeline("pipeline", [mapping, row, program(net, {"row": (1,)}, ["meaning"])], ["words"], ["meaning", "id"])
    made = lambda i: net(torch.tensor([float(i)])).detach().numpy()
    return top, [({"words": w}, {"meaning": made(words.index(w) if w in words else 3), "id": words.index(w) if w in words else 3})
                 for w in ("cat", "a", "dog")]


@case
def networks():
    """Networks only, one of them in a pipeline of its own: as ML programs they can be compiled."""
    weights = [normal(4, 3), normal(4, 4), normal(2, 4)]
    biases = [normal(4), normal(4), normal(2)]
    first, second, third = (
        dense(w, b, source, target, relu) for w, b, source, target, relu in
        zip(weights, biases, ("x", "a", "b"), ("a", "b", "c"), (True, True, False)))
    inner = pipeline("pipeline", [second, third], ["a"], ["c"])
    top = pipeline("pipeline", [first, inner], ["x"], ["c", "a"], names=["front", "back"])
    cases = []
    for _ in range(3):
        x = RNG.standard_normal(3)
        a = np.maximum(weights[0] @ x.astype(np.float32) + biases[0], 0)
        b = np.maximum(weights[1] @ a + biases[1], 0)
        cases.append(({"x": x}, {"a": a, "c": weights[2] @ b + biases[2]}))
    return top, cases


@case
def states():
    """Two programs keep sums, under the same name, from one prediction to the next; numbers are scaled between them."""

    class Sum(torch.nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor
            self.register_buffer("sum", torch.zeros(3))

        def forward(self, x):
            self.sum.mul_(self.factor)
            self.sum.add_(x)
            return self.sum * 1.0

    def keeper(factor, source, target):
        state = ct.StateType(wrapped_type=ct.TensorType(shape=(3,), dtype=np.float16), name="sum")
        return program(Sum(factor), {source: (3,)}, [target], states=[state], minimum_deployment_target=ct.target.iOS18)

    # Eighths, and what comes of them, are numbers of fp16.
    shift, scale = RNG.integers(-8, 8, 3) / 8, np.array([0.5, 2.0, 1.0])
    top = pipeline("pipeline", [keeper(0.5, "x", "a"), scaler(shift, scale, "a", "b"), keeper(1.0, "b", "c")], ["x"], ["c", "a"])
    cases, sums = [], [np.zeros(3), np.zeros(3)]
    for _ in range(4):
        x = RNG.integers(-8, 8, 3) / 8
        sums[0] = 0.5 * sums[0] + x
        sums[1] = sums[1] + (sums[0] + shift) * scale
        cases.append(({"x": x}, {"a": sums[0], "c": sums[1]}))
    return top, cases


@case
def vector_classifier():
    """Numbers become a vector, which a program classifies: what such pipelines are compiled to is known."""
    torch.manual_seed(6)
    names = ["no", "yes", "maybe"]
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3), torch.nn.Softmax(-1))
    config = ct.ClassifierConfig(names, predicted_feature_name="answer")
    judge = ct.convert(
        torch.jit.trace(net.eval(), torch.zeros(1, 3)), inputs=[ct.TensorType(name="row", shape=(1, 3))],
        minimum_deployment_target=ct.target.iOS16, compute_precision=ct.precision.FLOAT32, classifier_config=config,
        skip_model_load=True)
    top = pipeline("classifier", [vectorizer({"a": ("double", 1), "b": ([2], 2)}, "row"), judge], ["a", "b"],
                   ["answer", "answer_probs"], ["answer", "answer_probs"], ["vector", "judge"])
    cases = []
    for _ in range(5):
        row = 3 * RNG.standard_normal(3)
        odds = net(torch.from_numpy(row).float()[None])[0].detach().numpy().astype(float)
        cases.append(({"a": row[0], "b": row[1:]}, {"answer": names[odds.argmax()], "answer_probs": dict(zip(names, odds))}))
    return top, cases


# --- writing


def save(name, model):
    for old in (HERE / f"{name}.mlmodel", HERE / f"{name}.mlpackage"):
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    data = model.spec.SerializeToString(deterministic=True)
    if not model.weights:
        (HERE / f"{name}.mlmodel").write_bytes(data)
        return
    folder = HERE / f"{name}.mlpackage"
    weights = folder / "Data" / "com.apple.CoreML" / "weights"
    weights.mkdir(parents=True)
    (weights.parent / "model.mlmodel").write_bytes(data)
    for file, content in model.weights.items():
        (weights / file).write_bytes(content)
    item = lambda path, text: {"author": "com.apple.CoreML", "description": text, "name": Path(path).name, "path": path}
    model_id, weights_id = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {
            model_id: item("com.apple.CoreML/model.mlmodel", "CoreML Model Specification"),
            weights_id: item("com.apple.CoreML/weights", "CoreML Model Weights"),
        },
        "rootModelIdentifier": model_id,
    }
    (folder / "Manifest.json").write_text(json.dumps(manifest, indent=4) + "\n")


def main():
    for name, make in CASES.items():
        model, predictions = make()
        save(name, model)
        rows = [
            {side: {k: plain(v.item() if isinstance(v, np.generic) else v) for k, v in values.items()}
             for side, values in (("inputs", i), ("outputs", o))}
            for i, o in predictions
        ]
        (HERE / f"{name}.json").write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
