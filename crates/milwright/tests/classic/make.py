#!/usr/bin/env python3
"""Makes the models of this folder, which are computed by formulas, and what they are to give.

    python make.py      # needs coremltools 9.0, NumPy, PyTorch, torchvision, scikit-learn 1.5

coremltools converts what scikit-learn has trained, or a specification is written field by field. scikit-learn,
torchvision, or a formula written down here a second time computes the results. Each case is NAME.mlmodel, and NAME.json:
a list of predictions. A value in it is

    {"shape": [...], "elements": [...]}     numbers, "NaN" for what is none
    {"int": 3}, {"text": "a"}               a single int64, a single string
    {"texts": [...]}, {"ints": [...]}       sequences
    {"keys": [...], "values": [...]}        a dictionary, or a classifier's probabilities
"""

import contextlib
import io
import json
import math
import warnings
from pathlib import Path

import coremltools as ct
import numpy as np
from coremltools.proto import FeatureTypes_pb2, Model_pb2

warnings.filterwarnings("ignore", category=FutureWarning)  # scikit-learn's, about what it will be
HERE = Path(__file__).parent
RNG = np.random.default_rng(10)
CASES = {}
ARRAY = FeatureTypes_pb2.ArrayFeatureType


def case(make):
    CASES[make.__name__] = make
    return make


def converted(model, inputs="x", outputs=None):
    with contextlib.redirect_stdout(io.StringIO()):
        return ct.converters.sklearn.convert(model, inputs, outputs).get_spec()


def specification(inputs, outputs, version=5):
    """A specification with features: name to a type, or to the shape of an array of doubles."""
    spec = Model_pb2.Model(specificationVersion=version)
    for features, into in ((inputs, spec.description.input), (outputs, spec.description.output)):
        for name, kind in features.items():
            feature = into.add(name=name)
            declare(feature.type, kind)
    return spec


def declare(ty, kind):
    if kind == "int":
        ty.int64Type.SetInParent()
    elif kind == "double":
        ty.doubleType.SetInParent()
    elif kind == "text":
        ty.stringType.SetInParent()
    elif kind == "text to number":
        ty.dictionaryType.stringKeyType.SetInParent()
    elif kind == "int to number":
        ty.dictionaryType.int64KeyType.SetInParent()
    elif kind == "texts":
        ty.sequenceType.stringType.SetInParent()
    elif kind == "ints":
        ty.sequenceType.int64Type.SetInParent()
    else:
        ty.multiArrayType.dataType = ARRAY.DOUBLE
        ty.multiArrayType.shape.extend(kind)


# --- non-maximum suppression


def suppression(confidence_shape, boxes_shape, labels=3, per_class=True, iou=0.4, least=0.3, dtype=ARRAY.DOUBLE):
    spec = specification(
        {"raw_confidence": confidence_shape, "raw_coordinates": boxes_shape, "iou": "double", "least": "double"},
        {"confidence": [], "coordinates": []},
    )
    for feature in spec.description.input[2:]:
        feature.type.isOptional = True
    for feature in (*spec.description.input[:2], *spec.description.output):
        feature.type.multiArrayType.dataType = dtype
    nms = spec.nonMaximumSuppression
    nms.confidenceInputFeatureName, nms.coordinatesInputFeatureName = "raw_confidence", "raw_coordinates"
    nms.confidenceOutputFeatureName, nms.coordinatesOutputFeatureName = "confidence", "coordinates"
    nms.iouThresholdInputFeatureName, nms.confidenceThresholdInputFeatureName = "iou", "least"
    nms.iouThreshold, nms.confidenceThreshold = iou, least
    nms.pickTop.perClass = per_class
    nms.stringClassLabels.vector.extend(f"class {i}" for i in range(labels))
    return spec


def boxes(count, classes):
    coordinates = np.concatenate([RNG.uniform(0, 1, (count, 2)), RNG.uniform(0.1, 0.5, (count, 2))], 1)
    return RNG.uniform(0, 1, (count, classes)) ** 2, coordinates


def suppressed(confidence, coordinates, iou, least, per_class, rows=None):
    """By torchvision; in one order with ties by place."""
    import torch
    from torchvision.ops import batched_nms, box_convert

    best, label = confidence.max(1), confidence.argmax(1)
    sure = np.flatnonzero(best >= least)
    corners = box_convert(torch.from_numpy(coordinates[sure]), "cxcywh", "xyxy")
    groups = torch.from_numpy(label[sure] if per_class else np.zeros(len(sure), int))
    kept = sure[batched_nms(corners, torch.from_numpy(best[sure]), groups, iou).numpy()]
    kept = np.array(sorted(kept, key=lambda i: (-best[i], i)), int)
    result = {"confidence": confidence[kept], "coordinates": coordinates[kept]}
    if rows is not None:
        fill = lambda a: np.concatenate([a[:rows], np.zeros((max(0, rows - len(a)), a.shape[1]))])
        result = {name: fill(a) for name, a in result.items()}
    return result


@case
def detector():
    """Thresholds of the model, and others that are given; no box at all."""
    spec = suppression([], [], per_class=True)
    cases = []
    for count in (0, 1, 60, 300):
        c, x = boxes(count, 3)
        cases.append(({"raw_confidence": c, "raw_coordinates": x}, suppressed(c, x, 0.4, 0.3, True)))
        given = {"raw_confidence": c, "raw_coordinates": x, "iou": 0.1, "least": 0.6}
        cases.append((given, suppressed(c, x, 0.1, 0.6, True)))
    c, x = boxes(20, 3)
    cases.append(({"raw_confidence": c, "raw_coordinates": x, "least": 1.0}, suppressed(c, x, 0.4, 1.0, True)))
    given = {"raw_confidence": c[None], "raw_coordinates": x[None], "iou": 1.0, "least": 0.0}
    return spec, [*cases, (given, suppressed(c, x, 1.0, 0.0, True))]


@case
def detector_of_all():
    """Boxes of different classes are rivals, too; one array of each image; fp32, as exporters of detectors have it."""
    spec = suppression([1, 80, 5], [1, 80, 4], labels=5, per_class=False, dtype=ARRAY.FLOAT32)
    for name, width in (("confidence", 5), ("coordinates", 4)):
        array = next(o for o in spec.description.output if o.name == name).type.multiArrayType
        array.shapeRange.sizeRanges.add(lowerBound=0, upperBound=-1)
        array.shapeRange.sizeRanges.add(lowerBound=width, upperBound=width)
    c, x = (a.astype(np.float32).astype(float) for a in boxes(80, 5))
    return spec, [({"raw_confidence": c[None], "raw_coordinates": x[None]}, suppressed(c, x, 0.4, 0.3, False))]


@case
def detector_of_ten():
    """The number of boxes is declared: the others are zero, or left out."""
    spec = suppression([40, 3], [40, 4])
    for feature, width in zip(spec.description.output, (3, 4)):
        feature.type.multiArrayType.shape.extend([10, width])
    c, x = boxes(40, 3)
    cases = [(0.4, 0.3), (0.2, 0.85), (1.0, 0.0)]
    inputs = {"raw_confidence": c, "raw_coordinates": x}
    return spec, [
        ({**inputs, "iou": i, "least": least}, suppressed(c, x, i, least, True, 10)) for i, least in cases
    ]


@case
def detector_of_five_to_twelve():
    spec = suppression([40, 3], [40, 4], labels=0)
    for feature, width in zip(spec.description.output, (3, 4)):
        array = feature.type.multiArrayType
        array.shapeRange.sizeRanges.add(lowerBound=5, upperBound=12)
        array.shapeRange.sizeRanges.add(lowerBound=width, upperBound=width)
    c, x = boxes(40, 3)
    cases = []
    for i, least in ((0.4, 0.3), (0.2, 0.85), (1.0, 0.0), (0.4, 0.6)):
        rows = min(12, max(5, len(suppressed(c, x, i, least, True)["confidence"])))
        given = {"raw_confidence": c, "raw_coordinates": x, "iou": i, "least": least}
        cases.append((given, suppressed(c, x, i, least, True, rows)))
    return spec, cases


# --- words and things


@case
def words():
    """scikit-learn's way from counts of words to a class."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    vocabulary = ["good", "bad", "great", "dull", "slow"]
    texts = [dict(zip(RNG.choice(vocabulary, 3, False), map(float, RNG.integers(1, 4, 3)))) for _ in range(40)]
    labels = ["up" if t.get("good", 0) + t.get("great", 0) > t.get("bad", 0) + t.get("dull", 0) else "down" for t in texts]
    model = Pipeline([("words", DictVectorizer()), ("line", LogisticRegression(multi_class="ovr"))]).fit(texts, labels)
    spec = converted(model, "words", ["label", "scores"])
    cases = []
    for text in (*texts[:4], {}, {"unheard": 2.0, "bad": 1.0}):
        p = model.predict_proba([text])[0]
        cases.append(({"words": text}, {"label": str(model.predict([text])[0]), "scores": dict(zip(model.classes_, p))}))
    return spec, cases


@case
def numbered_words():
    """A dictionary of whole numbers: to the places of these, as a dictionary."""
    spec = specification({"x": "int to number"}, {"y": "int to number"}, 1)
    spec.dictVectorizer.int64ToIndex.vector.extend([70, -3, 2**40, 0])
    return spec, [
        ({"x": {0: 1.5, 70: -2.0, 5: 9.0}}, {"y": {0: -2.0, 3: 1.5}}),
        ({"x": {2**40: 0.25}}, {"y": {2: 0.25}}),
        ({"x": {}}, {"y": {}}),
    ]


@case
def words_to_array():
    spec = specification({"x": "text to number"}, {"y": [4]}, 1)
    spec.dictVectorizer.stringToIndex.vector.extend(["a", "c", "b", "z"])
    return spec, [({"x": {"a": 4.0, "c": 8.0}}, {"y": [4, 8, 0, 0]}), ({"x": {"y": 1.0}}, {"y": [0, 0, 0, 0]})]


@case
def one_hot():
    """scikit-learn's, of three columns: each is encoded, and all are put together."""
    from sklearn.preprocessing import OneHotEncoder

    x = RNG.integers(0, [3, 4, 2], (30, 3)).astype(float)
    model = OneHotEncoder().fit(x)
    return converted(model, "x", "y"), [({"x": row}, {"y": model.transform([row]).toarray()[0]}) for row in x[:5]]


def encoder(kind, sparse, unknown):
    spec = specification({"x": kind}, {"y": "int to number" if sparse else [3]}, 1)
    if kind == "text":
        spec.oneHotEncoder.stringCategories.vector.extend(["red", "green", "blue"])
    else:
        spec.oneHotEncoder.int64Categories.vector.extend([7, -1, 3])
    spec.oneHotEncoder.outputSparse = sparse
    spec.oneHotEncoder.handleUnknown = unknown
    return spec


@case
def one_hot_text():
    eye = np.eye(3)
    return encoder("text", False, 1), [({"x": c}, {"y": eye[i]}) for i, c in enumerate(["red", "green", "blue"])] + [
        ({"x": "Red"}, {"y": np.zeros(3)})
    ]


@case
def one_hot_sparse():
    return encoder("int", True, 1), [({"x": -1}, {"y": {1: 1.0}}), ({"x": 3}, {"y": {2: 1.0}}), ({"x": 4}, {"y": {}})]


@case
def mapping_to_text():
    spec = specification({"x": "int"}, {"y": "text"}, 1)
    spec.categoricalMapping.int64ToStringMap.map.update({-1: "none", 2: "two"})
    spec.categoricalMapping.strValue = "many"
    return spec, [({"x": x}, {"y": y}) for x, y in ((-1, "none"), (2, "two"), (3, "many"))]


@case
def mapping_of_sequence():
    spec = specification({"x": "texts"}, {"y": "ints"}, 3)
    spec.categoricalMapping.stringToInt64Map.map.update({"a": 1, "b": -(2**60)})
    spec.categoricalMapping.int64Value = 0
    return spec, [({"x": ["b", "c", "a", "a"]}, {"y": [-(2**60), 0, 1, 1]}), ({"x": ["a"]}, {"y": [1]})]


@case
def fill_dictionary():
    spec = specification({"x": "text to number"}, {"y": "text to number"}, 1)
    spec.imputer.imputedStringDictionary.map.update({"height": 1.75, "weight": 70.0})
    return spec, [({"x": {"weight": 80.0, "age": 3.0}}, {"y": {"age": 3.0, "height": 1.75, "weight": 80.0}})]


@case
def fill_text():
    spec = specification({"x": "text"}, {"y": "text"}, 1)
    spec.imputer.imputedStringValue, spec.imputer.replaceStringValue = "unknown", ""
    return spec, [({"x": ""}, {"y": "unknown"}), ({"x": "known"}, {"y": "known"})]


@case
def fill_numbers():
    """scikit-learn's, with the means of the columns."""
    from sklearn.impute import SimpleImputer

    x = RNG.standard_normal((20, 4))
    x[RNG.uniform(0, 1, x.shape) < 0.3] = -999
    model = SimpleImputer(missing_values=-999, strategy="mean").fit(x)
    return converted(model, "x", "y"), [({"x": row}, {"y": model.transform([row])[0]}) for row in x[:4]]


@case
def thresholding():
    spec = specification({"x": [3]}, {"y": [2, 3]}, 8)
    curve = spec.classConfidenceThresholding.precisionRecallCurves.add()
    for vector in ("precisionValues", "precisionConfidenceThresholds", "recallValues", "recallConfidenceThresholds"):
        getattr(curve, vector).vector.append(0.5)
    return spec, [({"x": [0.1, 0.7, 0.2]}, {"y": np.array([[0.1, 0.7, 0.2], [1, 1, 1]])})]


# --- support vectors


def svm_cases(model, x, labels):
    """What scikit-learn says. Of two classes it couples the probabilities of a single pair, which libsvm does no more."""
    cases = []
    for row in x:
        (label,) = model.predict([row])
        outputs = {"label": label.item() if labels == "int" else str(label)}
        if model.probability:
            p = model.predict_proba([row])[0]
            if len(model.classes_) == 2:
                # scikit-learn turns the sign around for two classes.
                d = -model.decision_function([row])[0]
                p = np.array([1 / (1 + math.exp(d * model.probA_[0] + model.probB_[0]))])
                p = np.clip(np.array([p[0], 1 - p[0]]), 1e-7, 1 - 1e-7)
            best = model.classes_[p.argmax()]
            outputs["label"] = best.item() if labels == "int" else str(best)
            outputs["scores"] = dict(zip(model.classes_.tolist(), p))
        cases.append(({"x": row}, outputs))
    return cases


def svm(kind, count, labels, probability, **options):
    from sklearn import svm as machines

    x = RNG.standard_normal((70, 4))
    y = (x @ RNG.standard_normal((4, count)) + 0.3 * RNG.standard_normal((70, count))).argmax(1)
    y = np.array([5, -2, 11, 3][:count])[y] if labels == "int" else np.array(["ash", "oak", "elm", "fir"][:count])[y]
    model = getattr(machines, kind)(probability=probability, random_state=0, **options).fit(x, y)
    names = ["label", "scores"] if probability else "label"
    return converted(model, "x", names), svm_cases(model, RNG.standard_normal((6, 4)), labels)


@case
def svc_linear():
    return svm("SVC", 2, "text", False, kernel="linear")


@case
def svc_rbf_probability():
    return svm("SVC", 2, "int", True, kernel="rbf", gamma=0.3)


@case
def svc_poly_many():
    return svm("SVC", 4, "int", False, kernel="poly", degree=3, coef0=0.5, gamma=0.2)


@case
def svc_sigmoid_many_probability():
    return svm("SVC", 3, "text", True, kernel="sigmoid", coef0=0.1, gamma=0.1)


@case
def nusvc_many_probability():
    return svm("NuSVC", 4, "text", True, kernel="rbf", nu=0.1)


def regression(kind, **options):
    from sklearn import svm as machines

    x = RNG.standard_normal((50, 3))
    model = getattr(machines, kind)(**options).fit(x, x @ [1, -2, 0.5] + np.sin(x[:, 0]))
    spec = converted(model, ["a", "b", "c"], "y")
    return spec, [(dict(zip("abc", row)), {"y": model.predict([row])[0]}) for row in RNG.standard_normal((4, 3))]


@case
def svr():
    return regression("SVR", kernel="poly", degree=2, coef0=1.0)


@case
def nusvr():
    return regression("NuSVR", kernel="rbf")


@case
def svc_sparse():
    """The same vectors as pairs of place and number; what is 0 is left out, and the order is no matter."""
    from sklearn.svm import SVC

    x = RNG.standard_normal((60, 6)) * (RNG.uniform(0, 1, (60, 6)) < 0.4)
    y = (x @ RNG.standard_normal((6, 3))).argmax(1)
    model = SVC(kernel="rbf", gamma=0.5, probability=True, random_state=0).fit(x, y)
    spec = converted(model, "x", ["label", "scores"])
    dense = [list(v.values) for v in spec.supportVectorClassifier.denseSupportVectors.vectors]
    vectors = spec.supportVectorClassifier.sparseSupportVectors.vectors
    for vector in dense:
        nodes = vectors.add().nodes
        for i, value in reversed(list(enumerate(vector))):
            if value:
                nodes.add(index=i + 1, value=value)
    return spec, svm_cases(model, x[:4], "int")


# --- neighbours


def neighbors(algorithm):
    from sklearn.neighbors import KNeighborsClassifier

    x = RNG.standard_normal((40, 3)).astype(np.float32).astype(float)
    y = (np.abs(x[:, 0]) > 0.7).astype(int) + 2 * (x[:, 1] > 0)
    model = KNeighborsClassifier(5, algorithm=algorithm).fit(x, y)
    queries = RNG.standard_normal((6, 3))
    return converted(model, "x", "kind"), [({"x": q}, {"kind": int(model.predict([q])[0])}) for q in queries]


@case
def neighbors_one_by_one():
    return neighbors("brute")


@case
def neighbors_in_a_tree():
    return neighbors("kd_tree")


@case
def neighbors_by_distance():
    """Near ones count more: by the inverse of the squared distance, which is the distance that the format has."""
    from coremltools.models.nearest_neighbors import KNearestNeighborsClassifierBuilder

    x = RNG.standard_normal((30, 2)).astype(np.float32)
    y = [["ash", "elm", "oak"][i] for i in RNG.integers(0, 3, 30)]
    options = {"weighting_scheme": "inverse_distance", "index_type": "linear", "number_of_neighbors": 4}
    builder = KNearestNeighborsClassifierBuilder("x", "kind", 2, "none", **options)
    builder.add_samples(x, y)
    cases = []
    for q in [*RNG.standard_normal((5, 2)), x[3].astype(float)]:
        distance = ((x.astype(float) - q) ** 2).sum(1)
        near = distance.argsort()[:4]
        weights = (distance[near] == 0).astype(float) if distance.min() == 0 else 1 / distance[near]
        share = {name: sum(w for i, w in zip(near, weights) if y[i] == name) / weights.sum() for name in sorted(set(y))}
        cases.append(({"x": q}, {"kind": max(share, key=share.get), "kindProbs": share}))
    return builder.spec, cases


@case
def no_neighbors():
    from coremltools.models.nearest_neighbors import KNearestNeighborsClassifierBuilder

    builder = KNearestNeighborsClassifierBuilder("x", "kind", 2, 42)
    return builder.spec, [({"x": [1.0, 2.0]}, {"kind": 42, "kindProbs": {}})]


# --- linear models and trees, again


def classifier_cases(model, x, as_int, labels=("label", "scores")):
    cases = []
    for row in x:
        p = model.predict_proba([row])[0]
        label = model.classes_[p.argmax()]
        names = model.classes_.tolist()
        cases.append(({"x": row}, {labels[0]: int(label) if as_int else str(label), labels[1]: dict(zip(names, p))}))
    return cases


@case
def lines_one_versus_rest():
    from sklearn.linear_model import LogisticRegression

    x = RNG.standard_normal((60, 4))
    y = np.array(["a", "b", "c"])[(x @ RNG.standard_normal((4, 3))).argmax(1)]
    model = LogisticRegression(multi_class="ovr").fit(x, y)
    return converted(model, "x", ["label", "scores"]), classifier_cases(model, x[:4], False)


@case
def line_of_two():
    from sklearn.linear_model import LogisticRegression

    x = RNG.standard_normal((60, 4))
    y = np.where(x @ [1, 2, -1, 0.5] > 0, 7, -7)
    model = LogisticRegression(multi_class="ovr").fit(x, y)
    return converted(model, "x", ["label", "scores"]), classifier_cases(model, x[:4], True)


@case
def forest():
    from sklearn.ensemble import RandomForestClassifier

    # In float32 a threshold is met by the same rows.
    x = RNG.standard_normal((60, 4)).astype(np.float32).astype(float)
    y = np.array([3, -1, 8])[(x @ RNG.standard_normal((4, 3))).argmax(1)]
    model = RandomForestClassifier(5, max_depth=3, random_state=0).fit(x, y)
    cases = classifier_cases(model, x[:5], True)
    for _, outputs in cases:
        # The converter adds up the probabilities of the trees, and so does the format.
        outputs["scores"] = {label: len(model.estimators_) * p for label, p in outputs["scores"].items()}
    return converted(model, "x", ["label", "scores"]), cases


@case
def boosted():
    from sklearn.ensemble import GradientBoostingClassifier

    x = RNG.standard_normal((60, 4)).astype(np.float32).astype(float)
    y = np.where(x[:, 0] * x[:, 1] > 0, "same", "other")
    model = GradientBoostingClassifier(n_estimators=6, max_depth=2, random_state=0).fit(x, y)
    return converted(model, "x", ["label", "scores"]), classifier_cases(model, x[:5], False)


@case
def boosted_numbers():
    from sklearn.ensemble import GradientBoostingRegressor

    x = RNG.standard_normal((60, 3)).astype(np.float32).astype(float)
    model = GradientBoostingRegressor(n_estimators=6, max_depth=2, random_state=0).fit(x, x @ [1, 2, 3])
    return converted(model, "x", "y"), [({"x": row}, {"y": model.predict([row])[0]}) for row in x[:5]]


def trees(builder, dimensions, count=3, features=4, depth=3):
    """Random trees with every kind of branch; and what they say, by walking down."""
    kinds = {
        "BranchOnValueLessThanEqual": lambda a, b: a <= b,
        "BranchOnValueLessThan": lambda a, b: a < b,
        "BranchOnValueGreaterThanEqual": lambda a, b: a >= b,
        "BranchOnValueGreaterThan": lambda a, b: a > b,
        "BranchOnValueEqual": lambda a, b: a == b,
        "BranchOnValueNotEqual": lambda a, b: a != b,
    }
    walks = []

    def grow(tree, node, level):
        if level == depth or (level and RNG.uniform() < 0.2):
            values = RNG.standard_normal(dimensions).tolist()
            builder.add_leaf_node(tree, node, values if dimensions > 1 else values[0])
            return lambda x: np.array(values)
        feature, value = int(RNG.integers(features)), float(RNG.integers(-1, 2))
        kind, missing = str(RNG.choice(list(kinds))), bool(RNG.integers(2))
        yes, no = grow(tree, 2 * node + 1, level + 1), grow(tree, 2 * node + 2, level + 1)
        builder.add_branch_node(tree, node, feature, value, kind, 2 * node + 1, 2 * node + 2,
                                missing_value_tracks_true_child=missing)
        return lambda x: (yes if (missing if math.isnan(x[feature]) else kinds[kind](x[feature], value)) else no)(x)

    for tree in range(count):
        walks.append(grow(tree, 0, 0))
    return lambda x: sum(walk(x) for walk in walks)


def tree_inputs():
    x = RNG.integers(-2, 3, (6, 4)).astype(float)
    x[2, 1] = x[3, 0] = x[3, 3] = x[5, 2] = math.nan
    return x


@case
def trees_of_three_classes():
    from coremltools.models.tree_ensemble import TreeEnsembleClassifier

    builder = TreeEnsembleClassifier([("x", ct.models.datatypes.Array(4))], ["a", "b", "c"], None)
    base = [0.5, -0.25, 0.0]
    builder.set_default_prediction_value(base)
    builder.set_post_evaluation_transform("Classification_SoftMax")
    walk = trees(builder, 3)
    cases = []
    for x in tree_inputs():
        s = np.exp(walk(x) + base)
        p = s / s.sum()
        cases.append(({"x": x}, {"classLabel": "abc"[p.argmax()], "classProbability": dict(zip("abc", p))}))
    return builder.spec, cases


@case
def trees_with_a_reference():
    from coremltools.models.tree_ensemble import TreeEnsembleClassifier

    builder = TreeEnsembleClassifier([("x", ct.models.datatypes.Array(4))], [10, 20, 30], None)
    builder.set_default_prediction_value([0.1, 0.2])
    builder.set_post_evaluation_transform("Classification_SoftMaxWithZeroClassReference")
    walk = trees(builder, 2)
    cases = []
    for x in tree_inputs():
        s = np.exp([0, *(walk(x) + [0.1, 0.2])])
        p = s / s.sum()
        label = [10, 20, 30][int(p.argmax())]
        cases.append(({"x": x}, {"classLabel": label, "classProbability": dict(zip([10, 20, 30], p))}))
    return builder.spec, cases


@case
def trees_of_two_numbers():
    from coremltools.models.tree_ensemble import TreeEnsembleRegressor

    builder = TreeEnsembleRegressor([("x", ct.models.datatypes.Array(4))], "y")
    builder.set_default_prediction_value([1.0, -1.0])
    walk = trees(builder, 2)
    spec = builder.spec
    del spec.description.output[:]
    declare(spec.description.output.add(name="y").type, [2])
    return spec, [({"x": x}, {"y": walk(x) + [1.0, -1.0]}) for x in tree_inputs()]


# --- writing


def plain(value, kind=None):
    if isinstance(value, dict):
        return {"keys": list(value), "values": [number(v) for v in value.values()]}
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, int):
        return {"int": value}
    if kind in ("texts", "ints"):
        return {kind: list(value)}
    array = np.asarray(value, np.float64)
    return {"shape": list(array.shape), "elements": [number(v) for v in array.ravel()]}


def number(value):
    return "NaN" if math.isnan(value) else float(f"{value:.15g}")


def sequence(spec, name):
    for feature in (*spec.description.input, *spec.description.output):
        if feature.name == name and feature.type.WhichOneof("Type") == "sequenceType":
            return "texts" if feature.type.sequenceType.WhichOneof("Type") == "stringType" else "ints"
    return None


def main():
    for name, make in CASES.items():
        spec, predictions = make()
        (HERE / f"{name}.mlmodel").write_bytes(spec.SerializeToString(deterministic=True))
        rows = [
            {side: {k: plain(v, sequence(spec, k)) for k, v in values.items()}
             for side, values in (("inputs", i), ("outputs", o))}
            for i, o in predictions
        ]
        (HERE / f"{name}.json").write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
