"""The five functions that `milwright.coremltools` has of coremltools, beside coremltools' own."""

import numpy as np
import pytest

ct = pytest.importorskip("coremltools")
import coremltools.optimize.coreml as cto  # noqa: E402
from coremltools.converters.mil import Builder as mb  # noqa: E402

import milwright.coremltools as ours  # noqa: E402

# coremltools' own, kept before anything takes their place.
THEIRS = {name: getattr(cto, name) for name in ("linear_quantize_weights", "palettize_weights", "prune_weights", "decompress_weights", "get_weights_metadata")}  # fmt: skip


@pytest.fixture(scope="module")
def models():
    rng = np.random.default_rng(3)
    weights = {
        "conv_weight": rng.standard_t(4, (32, 16, 3, 3)).astype(np.float32) * 0.1,
        "linear_weight": rng.standard_normal((48, 32 * 36)).astype(np.float32) * np.exp(rng.standard_normal((48, 1))).astype(np.float32),
    }

    def make(target):
        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 16, 8, 8))], opset_version=target)
        def prog(x):
            x = mb.conv(x=x, weight=mb.const(val=weights["conv_weight"], name="conv_weight"), name="conv")
            x = mb.reshape(x=mb.relu(x=x), shape=(1, 32 * 36))
            return mb.linear(x=x, weight=mb.const(val=weights["linear_weight"], name="linear_weight"), name="linear")

        return ct.convert(prog, minimum_deployment_target=target, compute_precision=ct.precision.FLOAT32)

    return {target: make(target) for target in (ct.target.iOS16, ct.target.iOS18)}, weights


def decompressed(model):
    """The weights that a model stands for, by coremltools' own expansion: by the names that they started with."""
    metadata = THEIRS["get_weights_metadata"](THEIRS["decompress_weights"](model), weight_threshold=100)
    return {next(n for n in ("conv_weight", "linear_weight") if name.startswith(n)): data.val for name, data in metadata.items()}


def linear(**kwargs):
    return "linear_quantize_weights", cto.OpLinearQuantizerConfig(**kwargs)


def palette(**kwargs):
    return "palettize_weights", cto.OpPalettizerConfig(**kwargs)


SETTINGS = [
    (ct.target.iOS16, *linear(mode="linear_symmetric")),
    (ct.target.iOS16, *linear(mode="linear", dtype=np.uint8)),
    (ct.target.iOS18, *linear(dtype="int4", granularity="per_block", block_size=8)),
    (ct.target.iOS18, *linear(mode="linear", dtype="uint4", granularity="per_tensor")),
    (ct.target.iOS16, *palette(mode="kmeans", nbits=4)),
    (ct.target.iOS16, *palette(mode="uniform", nbits=6)),
    (ct.target.iOS18, *palette(mode="kmeans", nbits=3, granularity="per_grouped_channel", group_size=8)),
    (ct.target.iOS18, *palette(mode="kmeans", nbits=4, cluster_dim=2)),
    (ct.target.iOS16, "prune_weights", cto.OpMagnitudePrunerConfig(target_sparsity=0.6)),
    (ct.target.iOS16, "prune_weights", cto.OpMagnitudePrunerConfig(n_m_ratio=(2, 4))),
    (ct.target.iOS16, "prune_weights", cto.OpThresholdPrunerConfig(threshold=0.15, minimum_sparsity_percentile=0.1)),
]


@pytest.mark.parametrize("target, name, config", SETTINGS, ids=lambda x: str(getattr(x, "name", x))[:60])
def test_a_function_does_what_that_of_coremltools_does(models, target, name, config):
    made, weights = models
    config = cto.OptimizationConfig(global_config=config)
    before = made[target].get_spec().SerializeToString()
    found = {who: decompressed(function(made[target], config)) for who, function in (("ours", getattr(ours, name)), ("theirs", THEIRS[name]))}
    assert made[target].get_spec().SerializeToString() == before, "the model that was given changed"
    assert found["ours"].keys() == found["theirs"].keys() == weights.keys()
    for weight, original in weights.items():
        error = {who: float(((values[weight] - original) ** 2).sum()) for who, values in found.items()}
        # k-means of vectors has no best clusters that anybody could find.
        allowed = 1.05 if getattr(config.global_config, "cluster_dim", 1) > 1 else 1.001
        assert error["ours"] <= allowed * error["theirs"], (weight, error)
        assert np.isfinite(found["ours"][weight]).all() and error["ours"] > 0


def test_what_is_compressed_is_expanded_and_described(models):
    made, weights = models
    model = made[ct.target.iOS18]
    small = ours.palettize_weights(model, cto.OptimizationConfig(global_config=cto.OpPalettizerConfig(nbits=4)))
    whole = ours.decompress_weights(small)
    kinds = lambda m: {op.op_type for f in m._mil_program.functions.values() for op in f.operations}  # noqa: E731
    assert any(k.startswith("constexpr") for k in kinds(small)) and not any(k.startswith("constexpr") for k in kinds(whole))
    described, theirs = ours.get_weights_metadata(small, weight_threshold=100), decompressed(small)
    assert set(described) == set(weights)
    for name, data in described.items():
        np.testing.assert_array_equal(data.val, theirs[name])
        assert data.unique_values == 16 and data.sparsity == pytest.approx((data.val == 0).mean())
        assert [op.op_type for op in data.child_ops] == [name.removesuffix("_weight")]
    assert set(ours.get_weights_metadata(model, weight_threshold=10**6)) == set()


def test_what_takes_the_place_of_coremltools_can_be_undone(models):
    made, _ = models
    config = cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig())
    ours.install_optimizer()
    try:
        assert cto.linear_quantize_weights is not THEIRS["linear_quantize_weights"]
        assert cto.linear_quantize_weights(made[ct.target.iOS16], config) is not None
    finally:
        for name, function in THEIRS.items():
            setattr(cto, name, function)


def test_settings_by_op_and_what_the_target_lacks(models):
    made, weights = models
    eight = cto.OpLinearQuantizerConfig()
    only = cto.OptimizationConfig(op_type_configs={"linear": eight}, op_name_configs={"conv": None})
    found = decompressed(ours.linear_quantize_weights(made[ct.target.iOS16], only))
    np.testing.assert_array_equal(found["conv_weight"], weights["conv_weight"])
    assert not np.array_equal(found["linear_weight"], weights["linear_weight"])
    four = cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig(dtype="int4"))
    with pytest.raises(Exception, match=r"(?i)ios.?18"):
        ours.linear_quantize_weights(made[ct.target.iOS16], four)


def both(names, configs, model, module):
    """A model compressed twice, the second time jointly."""
    for i, (name, config) in enumerate(zip(names, configs)):
        function = module[name] if isinstance(module, dict) else getattr(module, name)
        model = function(model, cto.OptimizationConfig(global_config=config), joint_compression=i > 0)
    return model


def op_types(model):
    """The ops that are not constants, in order."""
    ops = [op for function in model._mil_program.functions.values() for op in function.operations]
    return [op.op_type for op in ops if op.op_type != "const"]


PRUNE = "prune_weights", cto.OpMagnitudePrunerConfig(target_sparsity=0.5)
JOINT = [
    (PRUNE, linear(dtype="int4", granularity="per_block", block_size=8)),
    (PRUNE, linear(mode="linear", dtype="uint8", granularity="per_channel")),
    (PRUNE, palette(mode="uniform", nbits=4, granularity="per_grouped_channel", group_size=8)),
    (linear(granularity="per_block", block_size=8), PRUNE),
    (palette(mode="uniform", nbits=6), PRUNE),
    (palette(mode="uniform", nbits=4, granularity="per_grouped_channel", group_size=8), linear(granularity="per_tensor")),
    (linear(granularity="per_tensor", mode="linear"), palette(mode="uniform", nbits=4, granularity="per_grouped_channel", group_size=8)),
]


@pytest.mark.parametrize("first, second", JOINT, ids=str)
def test_joint_compression_is_that_of_coremltools(models, first, second):
    made, weights = models
    found = {who: both(*zip(first, second), made[ct.target.iOS18], module) for who, module in (("ours", ours), ("theirs", THEIRS))}
    assert op_types(found["ours"]) == op_types(found["theirs"])
    values = {who: decompressed(model) for who, model in found.items()}
    for weight, original in weights.items():
        error = {who: float(((of[weight] - original) ** 2).sum()) for who, of in values.items()}
        assert error["ours"] <= 1.01 * error["theirs"], (weight, error)


def test_what_stays_as_it_is_is_said(models, caplog):
    made, _ = models
    config = cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig(granularity="per_block", block_size=7))
    ours.linear_quantize_weights(made[ct.target.iOS18], config)
    assert any("not divisible by a block size of 7" in r.message and "Skipped" in r.message for r in caplog.records)
    for joint in (False, True):
        config = cto.OptimizationConfig(global_config=cto.OpPalettizerConfig(nbits=4, cluster_dim=1 if joint else 2))
        with pytest.raises(ValueError, match="supported since iOS18. Please re-convert your model.*there is|Joint"):
            ours.palettize_weights(made[ct.target.iOS16], config, joint_compression=joint)
