//! Recurrent networks: `LSTM`, `GRU`, `RNN`, and ONNX Runtime's quantized `DynamicQuantizeLSTM`.
//!
//! Each direction is lowered to MIL's op where that computes the same: with constant weights, no clipping, and
//! activations that it has. Otherwise the steps are written out, or become a loop. Sequences of different lengths are
//! run to the longest; what is beyond a sequence's end is zero, and its last state is the one at its end.

mod steps;

use milwright_mil::{DType, Input, OpKind, Opset, Tensor, Value, ValueId, param};

use super::coded::{Coded, Scales};
use super::elem::Elem;
use super::graph::Importer;
use super::item::Val;
use super::node::Node;
use super::quantize::rounded;
use super::shape::scalar_of;
use super::stored::Stored;
use crate::Error;
use crate::lower::{In, Result, Size, op, tensor_of};

/// The kinds of network.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Lstm,
    Gru,
    Rnn,
}

impl Kind {
    fn gates(self) -> usize {
        match self {
            Kind::Lstm => 4,
            Kind::Gru => 3,
            Kind::Rnn => 1,
        }
    }

    /// The activation functions of one direction, if the node names none.
    fn activations(self) -> &'static [&'static str] {
        match self {
            Kind::Lstm => &["Sigmoid", "Tanh", "Tanh"],
            Kind::Gru => &["Sigmoid", "Tanh"],
            Kind::Rnn => &["Tanh"],
        }
    }

    /// The places of MIL's gates in ONNX's order: LSTM has i, o, f, c where MIL has i, f, o, c; GRU z, r, h where MIL has
    /// r, h, z.
    fn order(self) -> &'static [usize] {
        match self {
            Kind::Lstm => &[0, 2, 1, 3],
            Kind::Gru => &[1, 2, 0],
            Kind::Rnn => &[0],
        }
    }
}

/// An activation function with its parameters.
#[derive(Clone, Debug, PartialEq)]
struct Activation {
    name: String,
    alpha: f32,
    beta: f32,
}

/// What a node says about all directions.
struct Network {
    kind: Kind,
    hidden: usize,
    /// For each direction, whether it runs from the end.
    directions: Vec<bool>,
    /// For each direction, its activation functions.
    activations: Vec<Vec<Activation>>,
    clip: Option<f32>,
    input_forget: bool,
    linear_before_reset: bool,
    /// Whether the batch is the first dimension.
    batch_first: bool,
    /// Whether states are rounded to 8 bits in every step.
    quantized: bool,
}

/// The operands of all directions, as values with the time first.
struct Operands {
    /// [steps, batch, input]
    x: ValueId,
    weights: Weights,
    lengths: Option<ValueId>,
    initial_h: Option<ValueId>,
    initial_c: Option<ValueId>,
    elem: Elem,
}

/// [directions, gates · hidden, input], [directions, gates · hidden, hidden], [directions, 2 · gates · hidden] and
/// [directions, 3 · hidden].
struct Weights {
    w: Weight,
    r: Weight,
    b: Option<Weight>,
    p: Option<Weight>,
}

/// A weight of all directions: a value, and its elements if they are known; or a value for each direction.
enum Weight {
    Whole { value: ValueId, known: Option<Tensor> },
    Parts(Vec<ValueId>),
}

impl Weight {
    fn known(&self) -> Option<&Tensor> {
        match self {
            Weight::Whole { known, .. } => known.as_ref(),
            Weight::Parts(_) => None,
        }
    }
}

pub(super) fn lstm(n: &mut Node<'_, '_>) -> Result<Vec<Val>> {
    run(n, Kind::Lstm)
}

pub(super) fn gru(n: &mut Node<'_, '_>) -> Result<Vec<Val>> {
    run(n, Kind::Gru)
}

pub(super) fn rnn(n: &mut Node<'_, '_>) -> Result<Vec<Val>> {
    run(n, Kind::Rnn)
}

fn run(n: &mut Node<'_, '_>, kind: Kind) -> Result<Vec<Val>> {
    let network = network(n, kind)?;
    // Until 6, it is said whether the sequence of outputs is wanted; whoever uses it wants it.
    n.ignore("output_sequence");
    let elem = n.elem(0)?;
    let weights = Weights {
        w: weight(n, 1)?,
        r: weight(n, 2)?,
        b: if n.has(3) { Some(weight(n, 3)?) } else { None },
        p: if kind == Kind::Lstm && n.has(7) { Some(weight(n, 7)?) } else { None },
    };
    let x = n.value(0)?;
    let x = n.cast(x, DType::Fp32)?;
    let x = if network.batch_first { op!(n, Transpose, x = x, perm = &[1, 0, 2][..])? } else { x };
    let lengths = lengths(n, x)?;
    let initial_h = state(n, 5, &network)?;
    let initial_c = if kind == Kind::Lstm { state(n, 6, &network)? } else { None };
    let operands = Operands { x, weights, lengths, initial_h, initial_c, elem };
    all_directions(n, &network, &operands)
}

/// `DynamicQuantizeLSTM`: the input is rounded to 8 bits once, over the whole sequence, and the states in every step.
pub(super) fn dynamic_quantize_lstm(n: &mut Node<'_, '_>) -> Result<Vec<Val>> {
    let mut network = network(n, Kind::Lstm)?;
    network.quantized = true;
    let elem = n.elem(0)?;
    let w = dequantized(n, 1, 8)?;
    let r = dequantized(n, 2, 10)?;
    let weights = Weights {
        w,
        r,
        b: if n.has(3) { Some(weight(n, 3)?) } else { None },
        p: if n.has(7) { Some(weight(n, 7)?) } else { None },
    };
    let x = n.value(0)?;
    let x = rounded(n, x)?;
    let x = if network.batch_first { op!(n, Transpose, x = x, perm = &[1, 0, 2][..])? } else { x };
    let lengths = lengths(n, x)?;
    let (initial_h, initial_c) = (state(n, 5, &network)?, state(n, 6, &network)?);
    let operands = Operands { x, weights, lengths, initial_h, initial_c, elem };
    all_directions(n, &network, &operands)
}

fn network(n: &mut Node<'_, '_>, kind: Kind) -> Result<Network> {
    let hidden = n.int("hidden_size")?.and_then(|h| usize::try_from(h).ok()).filter(|&h| h > 0);
    let hidden = hidden.ok_or_else(|| Error::malformed("its attribute `hidden_size` is missing"))?;
    let directions = match n.text_or("direction", "forward")? {
        "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        other => return Err(Error::malformed(format!("the direction \"{other}\""))),
    };
    let names = n.texts("activations")?;
    let alphas = n.floats("activation_alpha")?.map(<[f32]>::to_vec).unwrap_or_default();
    let betas = n.floats("activation_beta")?.map(<[f32]>::to_vec).unwrap_or_default();
    let each = kind.activations().len();
    let names: Vec<String> = match names.filter(|names| !names.is_empty()) {
        Some(names) => names.into_iter().map(str::to_owned).collect(),
        None => directions.iter().flat_map(|_| kind.activations()).map(|&s| s.to_owned()).collect(),
    };
    if names.len() != each * directions.len() {
        let (found, wanted) = (names.len(), each * directions.len());
        return Err(Error::malformed(format!("it has {found} activation functions, not {wanted}")));
    }
    let (mut alphas, mut betas) = (alphas.into_iter(), betas.into_iter());
    let activations = names
        .iter()
        .map(|name| {
            // Only functions that have a parameter take one of the list.
            let (alpha, beta) = match name.to_ascii_lowercase().as_str() {
                "affine" => (Some(1.0), Some(0.0)),
                "leakyrelu" => (Some(0.01), None),
                "thresholdedrelu" | "elu" => (Some(1.0), None),
                "scaledtanh" => (Some(1.0), Some(1.0)),
                "hardsigmoid" => (Some(0.2), Some(0.5)),
                _ => (None, None),
            };
            let alpha = alpha.map_or(0.0, |default| alphas.next().unwrap_or(default));
            let beta = beta.map_or(0.0, |default| betas.next().unwrap_or(default));
            Activation { name: name.to_ascii_lowercase(), alpha, beta }
        })
        .collect::<Vec<_>>();
    Ok(Network {
        kind,
        hidden,
        directions,
        activations: activations.chunks(each).map(<[Activation]>::to_vec).collect(),
        clip: n.float("clip")?.filter(|&c| c > 0.0),
        input_forget: kind == Kind::Lstm && n.flag("input_forget", false)?,
        linear_before_reset: kind == Kind::Gru && n.flag("linear_before_reset", false)?,
        batch_first: n.int_or("layout", 0)? == 1,
        quantized: false,
    })
}

/// A weight of all directions, in fp32.
fn weight(n: &mut Node<'_, '_>, i: usize) -> Result<Weight> {
    let value = n.value(i)?;
    let value = n.cast(value, DType::Fp32)?;
    let known = n.builder.known(value).cloned().or_else(|| n.known(i)).map(|tensor| match tensor.dtype() {
        DType::Fp32 => Ok(tensor),
        _ => tensor_of(tensor.shape(), tensor.to_f64().iter().map(|&x| x as f32).collect()),
    });
    Ok(Weight::Whole { value, known: known.transpose()? })
}

/// A weight of 8 bits, which is stored with the gates last: a matrix for each direction with the gates first.
fn dequantized(n: &mut Node<'_, '_>, i: usize, scale: usize) -> Result<Weight> {
    let unknown = || {
        Error::unsupported("its quantized weights are known only at run time")
            .with_hint("make them constants of the model: `--freeze NAME=FILE` if they are inputs of it")
    };
    let stored = n.stored(i).ok_or_else(unknown)?.clone();
    let scales = n.known_numbers(scale).ok_or_else(unknown)?;
    let zeros = match n.has(scale + 1) {
        true => n.known_numbers(scale + 1).ok_or_else(unknown)?,
        false => vec![0.0; scales.len()],
    };
    let &[directions, rows, columns] = stored.tensor.shape() else {
        return Err(Error::malformed("its weights must have three dimensions"));
    };
    let each = scales.len() / directions.max(1);
    let fits = (each == 1 || each == columns) && scales.len() == each * directions;
    if !fits || zeros.len() != scales.len() || stored.tensor.dtype().bits() != 8 {
        return Err(Error::malformed("its scales or zero points have another shape"));
    }
    let mut parts = Vec::with_capacity(directions);
    for d in 0..directions {
        let bytes = stored.tensor.bytes()[d * rows * columns..][..rows * columns].to_vec();
        let codes = Tensor::from_bytes(stored.tensor.dtype(), &[rows, columns], bytes.into());
        let codes = Stored::new(stored.elem, codes.map_err(|e| Error::malformed(e.to_string()))?);
        let own = |values: &[f64]| values[d * each..(d + 1) * each].to_vec();
        let scales = Scales {
            shape: vec![each],
            scale: own(&scales),
            zero: own(&zeros),
            axis: 1,
            block: 0,
            dtype: DType::Fp32,
        };
        let weight = Coded::new(&codes, scales)?;
        let weight = weight.ok_or_else(|| Error::malformed("its weights have no elements"))?;
        parts.push(weight.transposed()?.value(n)?);
    }
    Ok(Weight::Parts(parts))
}

/// The lengths of the sequences, unless all are as long as the tensor.
fn lengths(n: &mut Node<'_, '_>, x: ValueId) -> Result<Option<ValueId>> {
    if !n.has(4) {
        return Ok(None);
    }
    let steps = n.dim(x, 0)?.fixed();
    let all_long = n.known_ints(4).is_some_and(|l| l.iter().all(|&l| usize::try_from(l).ok() == steps));
    if all_long && steps.is_some() { Ok(None) } else { n.value(4).map(Some) }
}

/// The first state of all directions, [directions, batch, hidden].
fn state(n: &mut Node<'_, '_>, i: usize, network: &Network) -> Result<Option<ValueId>> {
    let Some(state) = n.optional(i)? else { return Ok(None) };
    let state = n.cast(state, DType::Fp32)?;
    Ok(Some(if network.batch_first { op!(n, Transpose, x = state, perm = &[1, 0, 2][..])? } else { state }))
}

/// What one direction gives: the states of all steps, [steps, batch, hidden], and the last ones, [batch, hidden].
struct Run {
    y: ValueId,
    h: ValueId,
    c: Option<ValueId>,
}

/// Lowers each direction, and joins their results.
fn all_directions(n: &mut Node<'_, '_>, network: &Network, operands: &Operands) -> Result<Vec<Val>> {
    let mut runs = Vec::with_capacity(network.directions.len());
    for d in 0..network.directions.len() {
        runs.push(direction(n, network, operands, d)?);
    }
    let mut joined = Vec::with_capacity(3);
    let y: Vec<ValueId> = runs.iter().map(|r| r.y).collect();
    // [steps, directions, batch, hidden]
    joined.push(stacked(n, &y, 1)?);
    let h: Vec<ValueId> = runs.iter().map(|r| r.h).collect();
    joined.push(stacked(n, &h, 0)?);
    if let Some(c) = runs.iter().map(|r| r.c).collect::<Option<Vec<ValueId>>>() {
        joined.push(stacked(n, &c, 0)?);
    }
    let mut results = Vec::with_capacity(3);
    for (i, mut value) in joined.into_iter().enumerate() {
        if network.batch_first {
            let perm: &[i32] = if i == 0 { &[2, 0, 1, 3] } else { &[1, 0, 2] };
            value = op!(n, Transpose, x = value, perm = perm)?;
        }
        let value = n.cast(value, operands.elem.carried()?)?;
        results.push(Val::new(operands.elem, value));
    }
    Ok(results)
}

/// Joins values along a new dimension.
fn stacked(n: &mut Node<'_, '_>, values: &[ValueId], axis: i32) -> Result<ValueId> {
    match values {
        [only] => op!(n, ExpandDims, x = *only, axes = &[axis][..]),
        _ => op!(n, Stack, values = values.to_vec(), axis = axis),
    }
}

fn direction(n: &mut Node<'_, '_>, network: &Network, operands: &Operands, d: usize) -> Result<Run> {
    let backward = network.directions[d];
    let h = first_state(n, operands.initial_h, operands.x, network, d)?;
    let c = match network.kind {
        Kind::Lstm => Some(first_state(n, operands.initial_c, operands.x, network, d)?),
        _ => None,
    };
    // A reversed sequence of its own length starts at its end.
    let (mut x, lengths) = (operands.x, operands.lengths);
    if let Some(lengths) = lengths.filter(|_| backward) {
        x = op!(n, ReverseSequence, x = x, lengths = lengths, seq_axis = 0, batch_axis = 1)?;
    }
    let reversed_inside = backward && lengths.is_none();
    let knows_cell = network.kind != Kind::Lstm || lengths.is_none() || !n.wants(2);
    let direct = if knows_cell { direct(n, network, operands, d, x, reversed_inside, h, c)? } else { None };
    let mut run = match direct {
        Some(run) => run,
        None => steps::written_out(n, network, operands, d, x, reversed_inside, h, c)?,
    };
    if reversed_inside {
        run.y = op!(n, Reverse, x = run.y, axes = &[0][..])?;
    }
    let Some(lengths) = lengths else { return Ok(run) };
    // The last state of each sequence, and zeros beyond its end.
    run.h = at_end(n, run.y, lengths, h)?;
    let inside = within(n, run.y, lengths)?;
    let zero = scalar_of(DType::Fp32, 0.0);
    run.y = op!(n, Select, cond = inside, a = run.y, b = zero)?;
    if backward {
        run.y = op!(n, ReverseSequence, x = run.y, lengths = lengths, seq_axis = 0, batch_axis = 1)?;
    }
    Ok(run)
}

/// Whether each step is within its sequence, as [steps, batch, 1].
fn within(n: &mut Node<'_, '_>, y: ValueId, lengths: ValueId) -> Result<ValueId> {
    let steps = n.shape(&[Size::Of(y, 0..1)])?;
    let steps = n.scalar(steps)?;
    let range = op!(n, Range1d, start = 0, end = steps, step = 1)?;
    let range = op!(n, ExpandDims, x = range, axes = &[1][..])?;
    let inside = op!(n, Less, x = range, y = lengths)?;
    op!(n, ExpandDims, x = inside, axes = &[2][..])
}

/// The state at the end of each sequence, or the first state if it has no steps.
fn at_end(n: &mut Node<'_, '_>, y: ValueId, lengths: ValueId, first: ValueId) -> Result<ValueId> {
    let last = op!(n, Sub, x = lengths, y = 1)?;
    let last = op!(n, Maximum, x = last, y = 0)?;
    // One index for every element: [1, batch, hidden].
    let shape = n.shape(&[Size::Fixed(1), Size::Of(y, 1..2), Size::Of(y, 2..3)])?;
    let last = op!(n, ExpandDims, x = last, axes = &[0, 2][..])?;
    let zeros = n.filled(shape, DType::Int32, 0.0)?;
    let indices = op!(n, Add, x = last, y = zeros)?;
    let found = op!(n, GatherAlongAxis, x = y, indices = indices, axis = 0)?;
    let found = op!(n, Squeeze, x = found, axes = &[0][..])?;
    let has_steps = op!(n, Greater, x = lengths, y = 0)?;
    let has_steps = op!(n, ExpandDims, x = has_steps, axes = &[1][..])?;
    op!(n, Select, cond = has_steps, a = found, b = first)
}

/// The first state of a direction, [batch, hidden].
fn first_state(
    n: &mut Node<'_, '_>,
    states: Option<ValueId>,
    x: ValueId,
    network: &Network,
    d: usize,
) -> Result<ValueId> {
    match states {
        Some(states) => of_direction(n, &Weight::Whole { value: states, known: None }, network, d),
        None => {
            let shape = n.shape(&[Size::Of(x, 1..2), Size::Fixed(network.hidden)])?;
            n.filled(shape, DType::Fp32, 0.0)
        }
    }
}

/// The part of a direction.
fn of_direction(n: &mut Node<'_, '_>, all: &Weight, network: &Network, d: usize) -> Result<ValueId> {
    let all = match all {
        Weight::Whole { value, .. } => *value,
        Weight::Parts(parts) => {
            let missing = || Error::malformed("its weights have fewer directions");
            return parts.get(d).copied().ok_or_else(missing);
        }
    };
    let rank = n.rank(all)?;
    let mut part = all;
    if network.directions.len() > 1 {
        part = super::slice::cut(n, all, 0, d as i64, d as i64 + 1)?;
    }
    let sizes: Vec<Size> = (1..rank).map(|i| Size::Of(part, i..i + 1)).collect();
    if n.dim(part, 0)?.fixed() == Some(1) {
        return op!(n, Squeeze, x = part, axes = &[0][..]);
    }
    n.reshape_to(part, &sizes)
}

/// MIL's name of an activation function, if it has it.
fn direct_activation(activation: &Activation) -> Option<&'static str> {
    Some(match activation.name.as_str() {
        "sigmoid" => "sigmoid",
        "tanh" => "tanh",
        "relu" => "relu",
        "hardsigmoid" if activation.alpha == 0.2 && activation.beta == 0.5 => "sigmoid_hard",
        "affine" if activation.alpha == 1.0 && activation.beta == 0.0 => "linear",
        _ => return None,
    })
}

/// Lowers a direction to MIL's op, if that computes the same.
#[expect(clippy::too_many_arguments, reason = "the parts of one direction")]
fn direct(
    n: &mut Node<'_, '_>,
    network: &Network,
    operands: &Operands,
    d: usize,
    x: ValueId,
    reversed: bool,
    h: ValueId,
    c: Option<ValueId>,
) -> Result<Option<Run>> {
    let (weights, kind, hidden) = (&operands.weights, network.kind, network.hidden);
    let activations: Option<Vec<&str>> = network.activations[d].iter().map(direct_activation).collect();
    let (Some(activations), Some(w), Some(r)) = (activations, weights.w.known(), weights.r.known()) else {
        return Ok(None);
    };
    let unknown = |w: &Option<Weight>| w.as_ref().is_some_and(|w| w.known().is_none());
    if network.quantized || network.clip.is_some() || network.input_forget {
        return Ok(None);
    }
    if unknown(&weights.b) || unknown(&weights.p) {
        return Ok(None);
    }
    let reset_after = network.linear_before_reset && weights.b.is_some();
    if network.linear_before_reset && !n.prefers(Opset::Ios18) {
        return Ok(None);
    }
    let direction = Value::string(if reversed { "reverse" } else { "forward" });
    let w = gates(w, d, kind, hidden)?;
    let r = gates(r, d, kind, hidden)?;
    let halves = match &weights.b {
        Some(b) => Some(biases(b.known(), d, kind, hidden)?),
        None => None,
    };
    let sum = halves.as_ref().map(|(wb, rb)| wb.iter().zip(rb).map(|(a, b)| a + b).collect::<Vec<f32>>());
    let vector = |v: Vec<f32>| -> Result<Value> { Ok(Value::Tensor(tensor_of(&[v.len()], v)?)) };
    let yes = Value::bool(true);
    let outputs = match kind {
        Kind::Lstm => {
            let mut inputs = vec![
                Input::value(param!(Lstm.x), x),
                Input::value(param!(Lstm.initial_h), h),
                Input::value(param!(Lstm.initial_c), c.unwrap_or(h)),
                Input::constant(param!(Lstm.weight_ih), Value::Tensor(w)),
                Input::constant(param!(Lstm.weight_hh), Value::Tensor(r)),
                Input::constant(param!(Lstm.direction), direction),
                Input::constant(param!(Lstm.output_sequence), yes),
                Input::constant(param!(Lstm.recurrent_activation), Value::string(activations[0])),
                Input::constant(param!(Lstm.cell_activation), Value::string(activations[1])),
                Input::constant(param!(Lstm.activation), Value::string(activations[2])),
            ];
            if let Some(sum) = sum {
                inputs.push(Input::constant(param!(Lstm.bias), vector(sum)?));
            }
            if let Some(p) = weights.p.as_ref().and_then(Weight::known) {
                // ONNX has i, o, f; MIL i, f, o.
                let p = rows(p, d, &[0, 2, 1], 3, hidden)?;
                inputs.push(Input::constant(param!(Lstm.peephole), vector(p)?));
            }
            n.ops(OpKind::Lstm, inputs)?
        }
        Kind::Gru => {
            let mut inputs = vec![
                Input::value(param!(Gru.x), x),
                Input::value(param!(Gru.initial_h), h),
                Input::constant(param!(Gru.weight_ih), Value::Tensor(w)),
                Input::constant(param!(Gru.weight_hh), Value::Tensor(r)),
                Input::constant(param!(Gru.direction), direction),
                Input::constant(param!(Gru.output_sequence), yes),
                Input::constant(param!(Gru.recurrent_activation), Value::string(activations[0])),
                Input::constant(param!(Gru.activation), Value::string(activations[1])),
            ];
            match (halves, sum) {
                (Some((wb, rb)), _) if reset_after => {
                    inputs.push(Input::constant(param!(Gru.input_bias), vector(wb)?));
                    inputs.push(Input::constant(param!(Gru.bias), vector(rb)?));
                }
                (_, Some(sum)) => inputs.push(Input::constant(param!(Gru.bias), vector(sum)?)),
                _ => {}
            }
            if network.linear_before_reset {
                inputs.push(Input::constant(param!(Gru.reset_after), Value::bool(true)));
            }
            n.ops(OpKind::Gru, inputs)?
        }
        Kind::Rnn => {
            let mut inputs = vec![
                Input::value(param!(Rnn.x), x),
                Input::value(param!(Rnn.initial_h), h),
                Input::constant(param!(Rnn.weight_ih), Value::Tensor(w)),
                Input::constant(param!(Rnn.weight_hh), Value::Tensor(r)),
                Input::constant(param!(Rnn.direction), direction),
                Input::constant(param!(Rnn.output_sequence), yes),
                Input::constant(param!(Rnn.activation), Value::string(activations[0])),
            ];
            if let Some(sum) = sum {
                inputs.push(Input::constant(param!(Rnn.bias), vector(sum)?));
            }
            n.ops(OpKind::Rnn, inputs)?
        }
    };
    Ok(Some(Run { y: outputs[0], h: outputs[1], c: outputs.get(2).copied() }))
}

/// The matrix of a direction with its gates in MIL's order.
fn gates(all: &Tensor, d: usize, kind: Kind, hidden: usize) -> Result<Tensor> {
    let &[directions, rows_, columns] = all.shape() else {
        return Err(Error::malformed("its weights must have three dimensions"));
    };
    if d >= directions || rows_ != kind.gates() * hidden {
        return Err(Error::malformed(format!(
            "a weight of shape {:?} for {hidden} hidden units",
            all.shape()
        )));
    }
    let values = rows(all, d, kind.order(), kind.gates(), hidden * columns)?;
    tensor_of(&[kind.gates() * hidden, columns], values)
}

/// The blocks of a direction, `count` of `size` elements each, in another order.
fn rows(all: &Tensor, d: usize, order: &[usize], count: usize, size: usize) -> Result<Vec<f32>> {
    let wrong = || Error::malformed(format!("a weight of shape {:?}", all.shape()));
    let values = all.as_slice::<f32>().ok_or_else(wrong)?;
    let part = values.get(d * count * size..(d + 1) * count * size).ok_or_else(wrong)?;
    Ok(order.iter().flat_map(|&gate| part[gate * size..(gate + 1) * size].iter().copied()).collect())
}

/// The biases of the input and of the state, each with its gates in MIL's order.
fn biases(b: Option<&Tensor>, d: usize, kind: Kind, hidden: usize) -> Result<(Vec<f32>, Vec<f32>)> {
    let b = b.ok_or_else(|| Error::malformed("a bias that is not known"))?;
    let gates = kind.gates();
    let input: Vec<usize> = kind.order().to_vec();
    let state: Vec<usize> = kind.order().iter().map(|&g| g + gates).collect();
    Ok((rows(b, d, &input, 2 * gates, hidden)?, rows(b, d, &state, 2 * gates, hidden)?))
}
