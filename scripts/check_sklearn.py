#!/usr/bin/env python3
"""Compare Milwright with ONNX Runtime and scikit-learn on classical models, exported by skl2onnx.

    python3 scripts/check_sklearn.py --milwright target/release/milwright [--only PART]

Each estimator or pipeline is trained on a small data set and exported. Its file runs as it is, and after
`milwright convert` as the package that it becomes, on 1, 7 and 50 samples. Labels must be equal and numbers agree within
1e-4 of the largest. Models whose labels are text must be refused, and the error must say so. Needs numpy, onnx,
onnxruntime, scikit-learn and skl2onnx.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnxruntime as ort
from skl2onnx import to_onnx
from sklearn import (
    compose,
    datasets,
    decomposition,
    ensemble,
    feature_selection,
    gaussian_process,
    impute,
    kernel_approximation,
    linear_model,
    multiclass,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)
from sklearn import discriminant_analysis as da

warnings.filterwarnings("ignore")
SAMPLES = (1, 7, 50)
OPSETS = {"": 18, "ai.onnx.ml": 3}


def classifiers():
    yield "logistic", linear_model.LogisticRegression(max_iter=2000)
    yield "logistic-ovr", multiclass.OneVsRestClassifier(linear_model.LogisticRegression(max_iter=2000))
    yield "ridge-classifier", linear_model.RidgeClassifier()
    yield "sgd-log", linear_model.SGDClassifier(loss="log_loss", random_state=0)
    yield "sgd-hinge", linear_model.SGDClassifier(random_state=0)
    yield "perceptron", linear_model.Perceptron(random_state=0)
    yield "linear-svc", svm.LinearSVC(random_state=0)
    yield "svc-rbf", svm.SVC()
    yield "svc-poly", svm.SVC(kernel="poly", degree=2)
    yield "svc-sigmoid", svm.SVC(kernel="sigmoid")
    yield "svc-probability", svm.SVC(probability=True, random_state=0)
    yield "nu-svc", svm.NuSVC(probability=True, nu=0.3, random_state=0)
    yield "tree", tree.DecisionTreeClassifier(random_state=0)
    yield "forest", ensemble.RandomForestClassifier(20, random_state=0)
    yield "extra-trees", ensemble.ExtraTreesClassifier(20, random_state=0)
    yield "boosting", ensemble.GradientBoostingClassifier(n_estimators=20, random_state=0)
    yield "ada-boost", ensemble.AdaBoostClassifier(n_estimators=10, random_state=0)
    yield "bagging", ensemble.BaggingClassifier(n_estimators=5, random_state=0)
    yield "voting", ensemble.VotingClassifier(
        [("a", linear_model.LogisticRegression(max_iter=2000)), ("b", tree.DecisionTreeClassifier(random_state=0))],
        voting="soft",
        flatten_transform=False,
    )
    yield "stacking", ensemble.StackingClassifier(
        [("a", linear_model.LogisticRegression(max_iter=2000)), ("b", tree.DecisionTreeClassifier(max_depth=3, random_state=0))]
    )
    yield "mlp", neural_network.MLPClassifier((8,), max_iter=300, random_state=0)
    yield "gaussian-nb", naive_bayes.GaussianNB()
    yield "bernoulli-nb", naive_bayes.BernoulliNB()
    yield "lda", da.LinearDiscriminantAnalysis()
    yield "qda", da.QuadraticDiscriminantAnalysis()
    yield "neighbors", neighbors.KNeighborsClassifier(3)
    yield "scaled", pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression(max_iter=2000))
    yield "pca", pipeline.make_pipeline(
        preprocessing.MinMaxScaler(), decomposition.PCA(3), ensemble.RandomForestClassifier(5, random_state=0)
    )


def regressors():
    yield "linear", linear_model.LinearRegression()
    yield "ridge", linear_model.Ridge()
    yield "lasso", linear_model.Lasso(0.1)
    yield "elastic-net", linear_model.ElasticNet(0.1)
    yield "bayesian-ridge", linear_model.BayesianRidge()
    yield "huber", linear_model.HuberRegressor(max_iter=1000)
    yield "poisson", linear_model.PoissonRegressor(max_iter=1000)
    yield "svr", svm.SVR()
    yield "svr-linear", svm.SVR(kernel="linear")
    yield "linear-svr", svm.LinearSVR(random_state=0, max_iter=10000)
    yield "tree-regressor", tree.DecisionTreeRegressor(random_state=0)
    yield "forest-regressor", ensemble.RandomForestRegressor(10, random_state=0)
    yield "extra-regressor", ensemble.ExtraTreesRegressor(10, random_state=0)
    yield "boosting-regressor", ensemble.GradientBoostingRegressor(n_estimators=20, random_state=0)
    yield "hist-regressor", ensemble.HistGradientBoostingRegressor(max_iter=20, random_state=0)
    yield "mlp-regressor", neural_network.MLPRegressor((8,), max_iter=300, random_state=0)
    yield "neighbors-regressor", neighbors.KNeighborsRegressor(3)
    yield "gaussian-process", gaussian_process.GaussianProcessRegressor()


def transformers():
    yield "standard-scaler", preprocessing.StandardScaler()
    yield "min-max", preprocessing.MinMaxScaler()
    yield "max-abs", preprocessing.MaxAbsScaler()
    yield "robust", preprocessing.RobustScaler()
    yield "normalizer-l1", preprocessing.Normalizer("l1")
    yield "normalizer-l2", preprocessing.Normalizer("l2")
    yield "normalizer-max", preprocessing.Normalizer("max")
    yield "binarizer", preprocessing.Binarizer(threshold=1.0)
    yield "imputer", impute.SimpleImputer()
    yield "imputer-median", impute.SimpleImputer(strategy="median")
    yield "polynomial", preprocessing.PolynomialFeatures(2)
    yield "bins", preprocessing.KBinsDiscretizer(4, encode="ordinal", quantile_method="averaged_inverted_cdf")
    yield "bins-onehot", preprocessing.KBinsDiscretizer(4, encode="onehot-dense", quantile_method="averaged_inverted_cdf")
    yield "power", preprocessing.PowerTransformer()
    yield "pca-alone", decomposition.PCA(2)
    yield "svd", decomposition.TruncatedSVD(2)
    yield "variance", feature_selection.VarianceThreshold(0.5)
    yield "select-best", feature_selection.SelectKBest(k=2)
    yield "nystroem", kernel_approximation.Nystroem(n_components=5, random_state=0)
    yield "columns", compose.ColumnTransformer(
        [("a", preprocessing.StandardScaler(), [0, 1]), ("b", preprocessing.MinMaxScaler(), [2]), ("c", "passthrough", [3])]
    )
    yield "union", pipeline.make_union(preprocessing.StandardScaler(), decomposition.PCA(2))


def cases():
    """Name, exported model, scikit-learn's own results for samples, and whether it has to be refused."""
    x, y = datasets.load_iris(return_X_y=True)
    x = x.astype(np.float32)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    two = y < 2
    for name, model in classifiers():
        model.fit(x, y)
        options = {"zipmap": False}
        yield name, model, x, options, False
    for name, model in classifiers():
        model.fit(x[two], y[two])
        yield name + "-two", model, x[two], {"zipmap": False}, False
    for name in ("logistic", "forest", "svc-probability"):
        model = dict(classifiers())[name].fit(x, y)
        yield name + "-zipmap", model, x, {}, False
        model = dict(classifiers())[name].fit(x, names)
        yield name + "-text", model, x, {"zipmap": False}, True
        yield name + "-text-zipmap", model, x, {}, True
    target = (x @ np.array([1, -2, 0.5, 3]) + np.sin(x[:, 0] * 3)).astype(np.float32)
    target -= target.min() - 1
    for name, model in regressors():
        yield name, model.fit(x, target), x, {}, False
    for name, model in transformers():
        data = x.copy()
        if name.startswith("imputer"):
            data[::5, 1] = np.nan
        yield name, model.fit(data, y), data, {}, False


def run(milwright, model, x, folder):
    out = folder / "out"
    np.save(folder / "x.npy", x)
    command = [milwright, "run", str(model), "--input", f"X={folder / 'x.npy'}", "--output", str(out), "--json", "--force"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return {file.stem: np.load(file) for file in out.glob("*.npy")}


def close(found, wanted):
    """What is wrong with an output; nothing if it is right."""
    if isinstance(wanted, list):  # A dictionary for each sample
        wanted = np.array([list(one.values()) for one in wanted])
    if found.shape != wanted.shape:
        return f"shape {found.shape}, not {wanted.shape}"
    if np.issubdtype(wanted.dtype, np.integer):
        return f"{(found != wanted).sum()} labels differ" if (found != wanted).any() else ""
    apart = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
    # Scores of kernels are small differences of large sums.
    scale = np.abs(wanted).max(initial=0.2)
    return f"{apart.max():.2e} of {scale:.3g}" if not (apart <= 1e-4 * scale).all() else ""


def check(milwright, name, model, data, options, refused, folder):
    try:
        proto = to_onnx(model, data[:1], options={id(model): options} if options else None, target_opset=OPSETS)
    except NameError:  # Not all classifiers have the option.
        proto = to_onnx(model, data[:1], target_opset=OPSETS)
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    package = folder / "model.mlpackage"
    done = subprocess.run(
        [milwright, "convert", str(path), "--output", str(package), "--force"], capture_output=True, text=True, check=False
    )
    if refused:
        return [] if done.returncode and "string" in done.stderr else [f"not refused: {done.stderr}"]
    if done.returncode:
        return [f"convert: {done.stderr.strip()}"]
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    problems = []
    for n in SAMPLES:
        x = data[:: max(1, len(data) // n)][:n]
        wanted = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"X": x})))
        for what, file in (("as it is", path), ("converted", package)):
            found = run(milwright, file, x, folder)
            for output, value in wanted.items():
                wrong = close(found[output], value)
                if wrong:
                    problems.append(f"{what}, {n} samples, {output}: {wrong}")
        label = wanted.get("label", wanted.get("output_label"))
        # The export itself may differ where a sample is on the border of two classes.
        own = model.predict(x) if label is not None else None
        if own is not None and (np.asarray(label).ravel() != own).mean() > 0.1:
            problems.append(f"{n} samples: the exported model itself differs from scikit-learn's")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--milwright", required=True)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    bad = total = 0
    for name, model, data, options, refused in cases():
        if args.only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                problems = check(args.milwright, name, model, data, options, refused, pathlib.Path(folder))
            except Exception as error:  # noqa: BLE001: one bad model must not hide the others
                problems = [f"cannot be checked: {error}"]
        total += 1
        bad += bool(problems)
        print(f"{'FAIL' if problems else 'ok  '} {name}", flush=True)
        for problem in problems:
            print("     " + problem.replace("\n", "\n     "))
    print(f"{total - bad} of {total} models agree")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
