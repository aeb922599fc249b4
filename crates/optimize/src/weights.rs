//! Finds the constants that are weights.

use std::collections::{HashMap, HashSet};

use milwright_mil::{Arg, DType, Function, OpId, OpKind, ValueId, param};

/// Smaller tensors are left alone, as in coremltools: they save nothing, and biases and scales need their precision.
pub const MIN_ELEMENTS: usize = 2048;

/// Constants with fewer elements are part of a program's structure, and no weights at all.
pub(crate) const LEAST: usize = 10;

/// A constant that may be compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    /// The `const` op.
    pub op: OpId,
    /// Its output.
    pub value: ValueId,
    /// The ops that use it.
    pub users: Vec<OpId>,
    /// The dimension of the output channels, if every op that uses the weight agrees on it.
    pub output_axis: Option<usize>,
    /// The dimension of the input channels, likewise.
    pub input_axis: Option<usize>,
}

/// Returns the weights of a function, in program order: float constants that have two or more dimensions and more than
/// [`MIN_ELEMENTS`] elements, and that no `constexpr_*` op uses.
pub fn weights(function: &Function) -> Vec<Weight> {
    let mut found = candidates(function);
    found.retain(|w| {
        function.const_value(w.value).and_then(|v| v.as_tensor()).is_some_and(|t| t.elements() > MIN_ELEMENTS)
    });
    found
}

/// Returns the weights of any size that are not compressed.
pub(crate) fn candidates(function: &Function) -> Vec<Weight> {
    find(function, false)
}

/// Returns the weights of any size, compressed or not. The op of one that is compressed is the last of its `constexpr_*`
/// ops.
pub(crate) fn all_candidates(function: &Function) -> Vec<Weight> {
    find(function, true)
}

fn find(function: &Function, compressed: bool) -> Vec<Weight> {
    let ops = function.walk();
    let mut users: HashMap<ValueId, Vec<OpId>> = HashMap::new();
    for &op in &ops {
        for value in function[op].values() {
            users.entry(value).or_default().push(op);
        }
    }
    let mut found = Vec::new();
    for &op in &ops {
        let Some(&value) = function[op].outputs.first() else { continue };
        let known = match function.const_value(value) {
            Some(constant) => constant.as_tensor().map(|t| (t.dtype(), t.shape().len(), t.elements())),
            None if compressed && function[op].kind.is_constexpr() => {
                let ty = function[value].ty.as_tensor();
                ty.and_then(|t| Some((t.dtype, t.rank(), t.elements()?)))
            }
            None => None,
        };
        let Some((dtype, rank, elements)) = known else { continue };
        let users = users.get(&value).map_or(&[][..], |u| u);
        let suits = matches!(dtype, DType::Fp16 | DType::Fp32)
            && rank >= 2
            && elements >= LEAST
            && !users.is_empty()
            && users.iter().all(|u| !function[*u].kind.is_constexpr());
        if suits {
            let axes = || users.iter().map(|&user| channels(function, user, value, rank));
            let first = axes().next().unwrap_or((0, 1));
            found.push(Weight {
                op,
                value,
                users: users.to_vec(),
                output_axis: axes().all(|a| a.0 == first.0).then_some(first.0),
                input_axis: axes().all(|a| a.1 == first.1).then_some(first.1),
            });
        }
    }
    found
}

/// The number of channels that vectors along the output channels must divide: in a grouped convolution, those of a group.
pub(crate) fn vector_limit(function: &Function, weight: &Weight, shape: &[usize]) -> Option<usize> {
    let axis = weight.output_axis?;
    let limit = |&user: &OpId| {
        let op = &function[user];
        let groups = match op.kind {
            OpKind::Conv => int(function, op.args(param!(Conv.groups))),
            OpKind::ConvTranspose => int(function, op.args(param!(ConvTranspose.groups))),
            _ => None,
        };
        // The weight's first dimension is that of all groups.
        let groups = usize::try_from(groups.filter(|_| axis == 0)?).ok().filter(|&g| g > 1)?;
        Some(shape[0] / groups)
    };
    weight.users.iter().filter_map(limit).min()
}

/// Whether every op that uses the weight is a `conv` or `linear`, and the weight its `weight`.
pub(crate) fn prunes_in_patterns(function: &Function, weight: &Weight) -> bool {
    weight.users.iter().all(|&user| {
        let op = &function[user];
        match op.kind {
            OpKind::Conv => op.value(param!(Conv.weight)) == Some(weight.value),
            OpKind::Linear => op.value(param!(Linear.weight)) == Some(weight.value),
            _ => false,
        }
    })
}

fn int(function: &Function, args: &[Arg]) -> Option<i64> {
    let tensor = match args {
        [Arg::Const(v)] => v.as_tensor(),
        [Arg::Value(v)] => function.const_value(*v).and_then(|v| v.as_tensor()),
        _ => None,
    };
    tensor?.to_i64()?.first().copied()
}

/// Returns the dimensions of output and input channels in an op's weight; 0 and 1 for ops that have no channels.
fn channels(function: &Function, user: OpId, value: ValueId, rank: usize) -> (usize, usize) {
    let op = &function[user];
    let transposed = |name| match op.args(name) {
        [Arg::Const(v)] => v.as_tensor().is_some_and(|t| t.bytes() == [1]),
        [Arg::Value(v)] => {
            function.const_value(*v).and_then(|v| v.as_tensor()).is_some_and(|t| t.bytes() == [1])
        }
        _ => false,
    };
    let (columns, rows) = ((rank - 1, rank - 2), (rank - 2, rank - 1));
    match op.kind {
        OpKind::ConvTranspose => (1, 0),
        OpKind::Matmul if op.value(param!(Matmul.y)) == Some(value) => {
            if transposed(param!(Matmul.transpose_y)) { rows } else { columns }
        }
        OpKind::Matmul if transposed(param!(Matmul.transpose_x)) => columns,
        OpKind::Matmul => rows,
        _ => (0, 1),
    }
}

/// A weight that an op multiplies with its inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// The weight's name.
    pub weight: String,
    /// The op.
    pub user: OpId,
    /// The op's other input.
    pub input: ValueId,
    /// The elements of a row of the weight: the vectors that it is multiplied with have as many.
    pub columns: usize,
    /// The rows.
    pub rows: usize,
    /// Whether columns lie one after the other in memory.
    pub transposed: bool,
}

/// Returns the weights of any size that a `linear`, a `conv` without groups, or a `matmul` as its second factor uses.
/// There is one for each user, of weights that all users take in the same way.
pub fn products(function: &Function) -> Vec<Product> {
    candidates(function).iter().flat_map(|w| products_of(function, w)).collect()
}

/// The product of a weight and its first user, if all users take it in the same way.
pub(crate) fn product(function: &Function, weight: &Weight) -> Option<Product> {
    products_of(function, weight).into_iter().next()
}

fn products_of(function: &Function, weight: &Weight) -> Vec<Product> {
    let all: Option<Vec<Product>> =
        weight.users.iter().map(|&user| product_of(function, weight, user)).collect();
    let same =
        |a: &Product, b: &Product| (a.rows, a.columns, a.transposed) == (b.rows, b.columns, b.transposed);
    all.filter(|all| all.windows(2).all(|pair| same(&pair[0], &pair[1]))).unwrap_or_default()
}

/// Makes weights that are the same bytes of a file one constant, with the name of the first: a network that was unrolled has
/// one for each step. Each would get codes of its own otherwise. Returns how many are left out.
pub fn share(function: &mut Function) -> usize {
    let body = function.body;
    let outputs = function[body].outputs.clone();
    let mut first: HashMap<(usize, usize, DType, Vec<usize>), ValueId> = HashMap::new();
    let mut same: HashMap<ValueId, ValueId> = HashMap::new();
    for &op in &function[body].ops {
        let Some(&value) = function[op].outputs.first() else { continue };
        let Some(tensor) = function.const_value(value).and_then(|v| v.as_tensor()) else { continue };
        if tensor.elements() <= MIN_ELEMENTS || outputs.contains(&value) {
            continue;
        }
        let bytes = tensor.bytes();
        let key = (bytes.as_ptr().addr(), bytes.len(), tensor.dtype(), tensor.shape().to_vec());
        match first.get(&key) {
            Some(&earlier) => drop(same.insert(value, earlier)),
            None => drop(first.insert(key, value)),
        }
    }
    function.replace_all_uses(&same);
    let gone: HashSet<OpId> = same.keys().filter_map(|&v| function.defining_op(v)).collect();
    function[body].ops.retain(|op| !gone.contains(op));
    same.len()
}

fn product_of(function: &Function, weight: &Weight, user: OpId) -> Option<Product> {
    let shape = function.const_value(weight.value)?.as_tensor()?.shape().to_vec();
    let op = &function[user];
    let (input, rows, transposed) = match op.kind {
        OpKind::Linear if op.value(param!(Linear.weight)) == Some(weight.value) && shape.len() == 2 => {
            (op.value(param!(Linear.x))?, shape[0], false)
        }
        OpKind::Conv if op.value(param!(Conv.weight)) == Some(weight.value) => {
            if int(function, op.args(param!(Conv.groups))).unwrap_or(1) != 1 {
                return None;
            }
            (op.value(param!(Conv.x))?, shape[0], false)
        }
        OpKind::Matmul if op.value(param!(Matmul.y)) == Some(weight.value) && shape.len() == 2 => {
            let (output, _) = channels(function, user, weight.value, 2);
            (op.value(param!(Matmul.x))?, shape[output], output == 1)
        }
        _ => return None,
    };
    let columns = shape.iter().product::<usize>() / rows.max(1);
    let name = function[weight.value].name.clone();
    Some(Product { weight: name, user, input, columns, rows, transposed })
}

#[cfg(test)]
mod tests {
    use milwright_mil::{Input, Opset, Tensor, Type};

    use super::*;

    /// Three steps of an unrolled network share a weight; another weight of equal numbers, but of other bytes, stays.
    #[test]
    fn the_same_bytes_are_one_weight() {
        let mut f = Function::new(Opset::Ios18);
        let mut value = f.add_input("x", Type::tensor(DType::Fp32, &[1, 64]));
        let numbers = || Tensor::from_vec(&[64, 64], (0..4096).map(|i| (i as f32).sin()).collect()).unwrap();
        let (shared, other, body) = (numbers(), numbers(), f.body);
        for (i, tensor) in [&shared, &shared, &other, &shared].into_iter().enumerate() {
            let (op, weight) = f.make_const(format!("w{i}"), tensor.clone().into());
            f[body].ops.push(op);
            let inputs = vec![Input::value("x", value), Input::value("weight", weight)];
            let ty = Type::tensor(DType::Fp32, &[1, 64]);
            let op = f.push_op(body, OpKind::Linear, inputs, [(format!("y{i}"), ty)]);
            value = f[op].outputs[0];
        }
        f[body].outputs = vec![value];
        assert_eq!((weights(&f).len(), products(&f).len()), (4, 4));
        assert_eq!(share(&mut f), 2);
        let found = weights(&f);
        let users: Vec<(&str, usize)> =
            found.iter().map(|w| (f[w.value].name.as_str(), w.users.len())).collect();
        assert_eq!(users, [("w0", 3), ("w2", 1)]);
        let products = products(&f);
        assert_eq!(products.iter().map(|p| p.weight.as_str()).collect::<Vec<_>>(), ["w0", "w0", "w0", "w2"]);
        assert_eq!(
            products.iter().map(|p| p.input).collect::<HashSet<_>>().len(),
            4,
            "each step has its inputs"
        );
        let mut program = milwright_mil::Program::default();
        program.functions.insert("main".into(), f);
        milwright_mil::verify(program).unwrap_or_else(|e| panic!("{e}"));
    }
}
