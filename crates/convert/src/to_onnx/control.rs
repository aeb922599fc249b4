//! Branches, loops, states, classes, random numbers.

use milwright_formats::onnx::proto as pb;
use milwright_mil::ops::{Number, Operand};
use milwright_mil::{Arg, BlockId, DType, Function, OpId, Tensor, ValueId};

use super::graph::{self, Graph, Node, Result, code, element, float, int, ints, texts};
use super::{implement, refuse};
use crate::Error;

type Made = Result<Vec<String>>;

/// The domain of classical models.
pub(super) const ML: &str = "ai.onnx.ml";

/// Appends the ops of a block, whose inputs are bound; the names of its outputs.
fn block(g: &mut Graph<'_>, id: BlockId) -> Made {
    let function: &Function = g.function;
    for &op in &function[id].ops {
        g.lower(op)?;
    }
    function[id].outputs.iter().map(|&v| g.value(v)).collect()
}

/// Declares outputs of a nested graph, each under a name of its own.
fn outputs(g: &mut Graph<'_>, names: &[String], values: &[ValueId]) -> Result<Vec<pb::ValueInfoProto>> {
    let mut infos = Vec::new();
    for (name, &value) in names.iter().zip(values) {
        let own = g.fresh("result");
        g.rename(name, &own);
        infos.push(g.info(&own, g.ty(value)?)?);
    }
    Ok(infos)
}

implement! {
    Cond: |n, p| {
        let pred = n.of(&p.pred)?;
        let id = n.id;
        let mut branches = Vec::new();
        for (&inner, name) in n.blocks(id).iter().zip(["then_branch", "else_branch"]) {
            let outer = n.begin_nested();
            let made = block(n, inner)?;
            let values = n.function[inner].outputs.clone();
            let output = outputs(n, &made, &values)?;
            let node = n.end_nested(outer);
            branches.push(graph::graph(name, pb::GraphProto {
                name: Some(name.into()), node, output, ..Default::default()
            }));
        }
        let count = n.op().outputs.len();
        Ok(n.add_many("If", &[&pred], branches, count))
    };
    WhileLoop: |n, p| {
        let first: Vec<String> = p.loop_vars.iter().map(|v| n.bound(v)).collect::<Result<_>>()?;
        let id = n.id;
        let &[test, body] = n.blocks(id) else { return Err(Error::malformed("a loop without two blocks")) };
        let function = n.function;
        let bind = |n: &mut Node<'_, '_>, inner: BlockId, names: &[String]| {
            for (&input, name) in function[inner].inputs.iter().zip(names) {
                n.bind(input, name.clone());
            }
        };
        bind(n, test, &first);
        let begin = block(n, test)?.remove(0);
        let outer = n.begin_nested();
        let (turn, go) = (n.fresh("turn"), n.fresh("go"));
        let scalar = |dtype| milwright_mil::TensorType::scalar(dtype);
        let mut input = vec![n.info(&turn, &scalar(DType::Int64))?, n.info(&go, &scalar(DType::Bool))?];
        let mut variables = Vec::new();
        for &value in &function[body].inputs {
            let name = n.fresh(&function[value].name);
            input.push(n.info(&name, n.ty(value)?)?);
            variables.push(name);
        }
        bind(n, body, &variables);
        let next = block(n, body)?;
        bind(n, test, &next);
        let again = block(n, test)?;
        let mut output = outputs(n, &again, &function[test].outputs)?;
        output.extend(outputs(n, &next, &function[body].outputs)?);
        let node = n.end_nested(outer);
        let inner = pb::GraphProto { name: Some("body".into()), node, input, output, ..Default::default() };
        let mut inputs = vec!["", begin.as_str()];
        inputs.extend(first.iter().map(String::as_str));
        let count = n.op().outputs.len();
        Ok(n.add_many("Loop", &inputs, vec![graph::graph("body", inner)], count))
    };
    ReadState: |n, p| {
        let state = state(n)?;
        let _ = p;
        Ok(vec![n.states[&state].clone()])
    };
    WriteState: |n, p| {
        if n.depth > 0 {
            return Err(Error::unsupported("a state that is written inside a branch or a loop"));
        }
        let (state, data) = (state(n)?, n.of(&p.data)?);
        n.states.insert(state, data);
        Ok(Vec::new())
    };
    Classify: |n, p| {
        let x = n.of(&p.probabilities)?;
        let labels = labels(n)?;
        let flat = n.reshape(&x, &[-1]);
        let best = n.add_with("ArgMax", &[&flat], vec![int("axis", 0), int("keepdims", 1)]);
        let keys = ints("keys_int64s", 0..labels.elements() as i64);
        let values = match labels.dtype() {
            DType::String => texts("values_strings", labels.strings().iter().cloned()),
            _ => ints("values_int64s", labels.to_i64().unwrap_or_default()),
        };
        let label = n.add_in(ML, "LabelEncoder", &[&best], vec![keys, values], 1).remove(0);
        Ok(vec![label, flat])
    };
    RandomBernoulli: |n, p| {
        let prob = filled(n, &p.shape, p.prob.value)?;
        let dtype = n.out(0)?.dtype;
        let more = vec![int("dtype", code(dtype)?.into())];
        let more = more.into_iter().chain(seed(p.seed)).collect();
        Ok(vec![n.add_with("Bernoulli", &[&prob], more)])
    };
    RandomNormal: |n, p| random(n, &p.shape, "RandomNormalLike", ("mean", &p.mean), ("scale", &p.stddev), p.seed);
    RandomUniform: |n, p| random(n, &p.shape, "RandomUniformLike", ("low", &p.low), ("high", &p.high), p.seed);
}

refuse! {
    ListGather: "lists of tensors";
    ListLength: "lists of tensors";
    ListRead: "lists of tensors";
    ListScatter: "lists of tensors";
    ListWrite: "lists of tensors";
    MakeList: "lists of tensors";
    RandomCategorical: "its draws differ";
}

/// The state that an op names.
fn state(n: &Node<'_, '_>) -> Result<ValueId> {
    n.op()
        .value("input")
        .filter(|v| n.states.contains_key(v))
        .ok_or_else(|| Error::malformed("an unknown state"))
}

/// The classes of a classifier.
fn labels(n: &Node<'_, '_>) -> Result<Tensor> {
    let classes = match n.op().args(milwright_mil::param!(Classify.classes)) {
        [Arg::Const(value)] => Some(value),
        [Arg::Value(v)] => n.function.const_value(*v),
        _ => None,
    };
    let wrong = || Error::unsupported("classes that are not constants");
    let strings = |values: &[milwright_mil::Value]| -> Option<Vec<String>> {
        values.iter().map(|v| v.as_str().map(str::to_owned)).collect()
    };
    match classes.ok_or_else(wrong)? {
        milwright_mil::Value::Tensor(tensor) => Ok(tensor.clone()),
        milwright_mil::Value::List(_, values) => match strings(values) {
            Some(names) => Tensor::from_strings(&[names.len()], names).map_err(|_| wrong()),
            None => {
                let ints: Option<Vec<i64>> =
                    values.iter().map(|v| v.as_tensor()?.to_i64()?.first().copied()).collect();
                let ints = ints.ok_or_else(wrong)?;
                Tensor::from_vec(&[ints.len()], ints).map_err(|_| wrong())
            }
        },
        _ => Err(wrong()),
    }
}

/// Declares an output of a classifier: the label, or the probabilities in the order of the classes.
pub(super) fn class_info(
    g: &mut Graph<'_>,
    op: OpId,
    output: ValueId,
    name: &str,
) -> Result<pb::ValueInfoProto> {
    let node = Node { graph: g, id: op };
    let labels = labels(&node)?;
    let count = labels.elements();
    if node.op().outputs[0] != output {
        return graph::info(name, &milwright_mil::TensorType::fixed(DType::Fp32, &[count]));
    }
    let mut info = graph::info(name, &milwright_mil::TensorType::fixed(DType::Int64, &[1]))?;
    if labels.dtype() == DType::String
        && let Some(pb::type_proto::Value::TensorType(tensor)) =
            info.r#type.as_mut().and_then(|t| t.value.as_mut())
    {
        tensor.elem_type = Some(pb::tensor_proto::DataType::String as i32);
    }
    Ok(info)
}

/// A tensor of a shape, with one value.
fn filled(n: &mut Node<'_, '_>, shape: &Operand<'_>, value: f32) -> Result<String> {
    let shape = n.of_as(shape, DType::Int64)?;
    Ok(n.add_with("ConstantOfShape", &[&shape], vec![element("value", &Tensor::scalar(value))?]))
}

fn seed(seed: i64) -> Option<pb::AttributeProto> {
    (seed >= 0).then(|| float("seed", seed as f32))
}

fn random(
    n: &mut Node<'_, '_>,
    shape: &Operand<'_>,
    op: &str,
    a: (&str, &Number<'_>),
    b: (&str, &Number<'_>),
    number: i64,
) -> Made {
    let like = filled(n, shape, 0.0)?;
    let dtype = n.out(0)?.dtype;
    let mut more = vec![float(a.0, a.1.value), float(b.0, b.1.value), int("dtype", code(dtype)?.into())];
    more.extend(seed(number));
    Ok(vec![n.add_with(op, &[&like], more)])
}
