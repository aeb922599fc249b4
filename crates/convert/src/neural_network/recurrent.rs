//! Recurrent networks.

use milwright_formats::proto::activation_params::NonlinearityType;
use milwright_formats::proto::{
    ActivationParams, BiDirectionalLstmLayerParams, GruLayerParams, LstmParams, LstmWeightParams,
    SimpleRecurrentLayerParams, UniDirectionalLstmLayerParams, WeightParams,
};
use milwright_mil::{Input, OpKind, Tensor, Value, ValueId, param};

use super::net::Net;
use crate::Error;
use crate::lower::{Result, Size, first, op, tensor_of, usize_of};

/// The clipping threshold of cells whose threshold is 0 or not set.
const CELL_CLIP: f32 = 50.0;

pub(super) fn simple(n: &mut Net, x: &[ValueId], p: &SimpleRecurrentLayerParams) -> Result<Vec<ValueId>> {
    let sizes = Sizes::new(p.input_vector_size, p.output_vector_size)?;
    let (sequence, mut inputs) = sequence(n, x, &sizes)?;
    inputs.extend([
        Input::value(param!(Rnn.initial_h), state(n, x.get(1), sequence, &sizes)?),
        matrix(n, param!(Rnn.weight_ih), &[(p.weight_matrix.as_deref(), 1.0)], sizes.input, &sizes)?,
        matrix(n, param!(Rnn.weight_hh), &[(p.recursion_matrix.as_deref(), 1.0)], sizes.hidden, &sizes)?,
        Input::constant(param!(Rnn.activation), activation(p.activation.as_ref())?),
        direction(p.reverse_input),
        Input::constant(param!(Rnn.output_sequence), Value::bool(p.sequence_output)),
    ]);
    if p.has_bias_vector {
        inputs.push(vector(n, param!(Rnn.bias), &[(p.bias_vector.as_deref(), 1.0, 0.0)], &sizes)?);
    }
    results(n, OpKind::Rnn, inputs)
}

pub(super) fn gru(n: &mut Net, x: &[ValueId], p: &GruLayerParams) -> Result<Vec<ValueId>> {
    let sizes = Sizes::new(p.input_vector_size, p.output_vector_size)?;
    let (sequence, mut inputs) = sequence(n, x, &sizes)?;
    // MIL's order of gates: reset, output, update.
    let weights = [&p.reset_gate_weight_matrix, &p.output_gate_weight_matrix, &p.update_gate_weight_matrix];
    let recursion =
        [&p.reset_gate_recursion_matrix, &p.output_gate_recursion_matrix, &p.update_gate_recursion_matrix];
    inputs.extend([
        Input::value(param!(Gru.initial_h), state(n, x.get(1), sequence, &sizes)?),
        matrix(n, param!(Gru.weight_ih), &weights.map(|w| (w.as_deref(), 1.0)), sizes.input, &sizes)?,
        matrix(n, param!(Gru.weight_hh), &recursion.map(|w| (w.as_deref(), 1.0)), sizes.hidden, &sizes)?,
        Input::constant(param!(Gru.recurrent_activation), activation(p.activations.first())?),
        Input::constant(param!(Gru.activation), activation(p.activations.get(1))?),
        direction(p.reverse_input),
        Input::constant(param!(Gru.output_sequence), Value::bool(p.sequence_output)),
    ]);
    if p.has_bias_vectors {
        let biases = [&p.reset_gate_bias_vector, &p.output_gate_bias_vector, &p.update_gate_bias_vector];
        inputs.push(vector(n, param!(Gru.bias), &biases.map(|b| (b.as_deref(), 1.0, 0.0)), &sizes)?);
    }
    results(n, OpKind::Gru, inputs)
}

pub(super) fn lstm(n: &mut Net, x: &[ValueId], p: &UniDirectionalLstmLayerParams) -> Result<Vec<ValueId>> {
    let sizes = Sizes::new(p.input_vector_size, p.output_vector_size)?;
    let params = p.params.unwrap_or_default();
    let weights = p.weight_params.clone().unwrap_or_default();
    let (sequence, mut inputs) = sequence(n, x, &sizes)?;
    inputs.push(Input::value(param!(Lstm.initial_h), state(n, x.get(1), sequence, &sizes)?));
    inputs.push(Input::value(param!(Lstm.initial_c), state(n, x.get(2), sequence, &sizes)?));
    inputs.push(direction(p.reverse_input));
    inputs.extend(cell(&params, &p.activations)?);
    inputs.extend(lstm_weights(n, FORWARD, &params, &weights, &sizes)?);
    results(n, OpKind::Lstm, inputs)
}

pub(super) fn bidirectional_lstm(
    n: &mut Net,
    x: &[ValueId],
    p: &BiDirectionalLstmLayerParams,
) -> Result<Vec<ValueId>> {
    let sizes = Sizes::new(p.input_vector_size, p.output_vector_size)?;
    let params = p.params.unwrap_or_default();
    let [forward, backward] = &p.weight_params[..] else {
        return Err(Error::malformed(format!("weights for {} directions", p.weight_params.len())));
    };
    let (sequence, mut inputs) = sequence(n, x, &sizes)?;
    for (name, [there, back]) in [(param!(Lstm.initial_h), [1, 3]), (param!(Lstm.initial_c), [2, 4])] {
        let there = state(n, x.get(there), sequence, &sizes)?;
        let back = state(n, x.get(back), sequence, &sizes)?;
        let both = op!(n, Concat, values = vec![there, back], axis = 1)?;
        inputs.push(Input::value(name, both));
    }
    inputs.push(Input::constant(param!(Lstm.direction), Value::string("bidirectional")));
    inputs.extend(cell(&params, &p.activations_forward_lstm)?);
    inputs.extend(lstm_weights(n, FORWARD, &params, forward, &sizes)?);
    inputs.extend(lstm_weights(n, BACKWARD, &params, backward, &sizes)?);
    let outputs = n.ops(OpKind::Lstm, inputs)?;
    let [y, h, c] = outputs[..] else { return Err(Error::malformed("an LSTM without states")) };
    let mut halves = Vec::with_capacity(4);
    for half in 0..2 {
        for value in [h, c] {
            let (begin, end) = (half * sizes.hidden, (half + 1) * sizes.hidden);
            let (begin, end) = ([0, begin as i32], [0, end as i32]);
            let masks = [true, false];
            let part = op!(
                n,
                SliceByIndex,
                x = value,
                begin = &begin[..],
                end = &end[..],
                begin_mask = &masks[..],
                end_mask = &masks[..]
            )?;
            halves.push(op!(n, ExpandDims, x = part, axes = &[0, 3, 4][..])?);
        }
    }
    let y = op!(n, ExpandDims, x = y, axes = &[3, 4][..])?;
    Ok([y].into_iter().chain(halves).collect())
}

struct Sizes {
    input: usize,
    hidden: usize,
}

impl Sizes {
    fn new(input: u64, hidden: u64) -> Result<Sizes> {
        Ok(Sizes { input: usize_of(input)?, hidden: usize_of(hidden)? })
    }
}

/// Returns the input as [sequence, batch, vector].
fn sequence(n: &mut Net, x: &[ValueId], sizes: &Sizes) -> Result<(ValueId, Vec<Input>)> {
    let [x] = first(x)?;
    let x = n.float_of(x)?;
    let x = match n.rank(x)? {
        5 => n.reshape_to(x, &[Size::Of(x, 0..1), Size::Of(x, 1..2), Size::Fixed(sizes.input)])?,
        3 => x,
        rank => return Err(Error::malformed(format!("a sequence of rank {rank}; it has to be 5"))),
    };
    Ok((x, vec![Input::value(param!(Lstm.x), x)]))
}

/// Returns an initial state as [batch, vector]: the given one, or zeros.
fn state(n: &mut Net, given: Option<&ValueId>, sequence: ValueId, sizes: &Sizes) -> Result<ValueId> {
    if let Some(&given) = given {
        let given = n.float_of(given)?;
        return n.reshape(given, &[-1, sizes.hidden as i64]);
    }
    let shape = n.shape(&[Size::Of(sequence, 1..2), Size::Fixed(sizes.hidden)])?;
    op!(n, Fill, shape = shape, value = 0.0)
}

/// Stacks the matrices of the gates, each multiplied by a factor.
fn matrix(
    n: &mut Net,
    name: &str,
    gates: &[(Option<&WeightParams>, f32)],
    columns: usize,
    sizes: &Sizes,
) -> Result<Input> {
    let mut values = Vec::new();
    for (gate, factor) in gates {
        let gate = floats(&n.weights(*gate, &[sizes.hidden, columns])?)?;
        values.extend(gate.iter().map(|x| x * factor));
    }
    let tensor = tensor_of(&[gates.len() * sizes.hidden, columns], values)?;
    Ok(Input::value(name, n.constant(tensor)))
}

/// Concatenates the vectors of the gates, each multiplied by a factor and increased by a number.
fn vector(
    n: &mut Net,
    name: &str,
    gates: &[(Option<&WeightParams>, f32, f32)],
    sizes: &Sizes,
) -> Result<Input> {
    let mut values = Vec::new();
    for (gate, factor, plus) in gates {
        let gate = floats(&n.weights(*gate, &[sizes.hidden])?)?;
        values.extend(gate.iter().map(|x| x * factor + plus));
    }
    let tensor = tensor_of(&[values.len()], values)?;
    Ok(Input::value(name, n.constant(tensor)))
}

fn floats(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.to_vec().map_err(|e| Error::malformed(e.to_string()))
}

/// The parameters of one direction: matrices for the input and for the state, bias, peephole.
const FORWARD: [&str; 4] =
    [param!(Lstm.weight_ih), param!(Lstm.weight_hh), param!(Lstm.bias), param!(Lstm.peephole)];
const BACKWARD: [&str; 4] = [
    param!(Lstm.weight_ih_back),
    param!(Lstm.weight_hh_back),
    param!(Lstm.bias_back),
    param!(Lstm.peephole_back),
];

/// Returns weights, biases and peepholes with the gates in the order input gate, forget gate, output gate, block input.
fn lstm_weights(
    n: &mut Net,
    [ih, hh, bias, peephole]: [&str; 4],
    params: &LstmParams,
    w: &LstmWeightParams,
    sizes: &Sizes,
) -> Result<Vec<Input>> {
    // A coupled forget gate is one minus the input gate. Because 1 - gate(z) = gate(-z) for the gates' functions, its
    // parameters are those of the input gate, negated.
    let coupled = params.coupled_input_and_forget_gate;
    let forget = |own, input| if coupled { (input, -1.0) } else { (own, 1.0) };
    let weights = [
        (w.input_gate_weight_matrix.as_deref(), 1.0),
        forget(w.forget_gate_weight_matrix.as_deref(), w.input_gate_weight_matrix.as_deref()),
        (w.output_gate_weight_matrix.as_deref(), 1.0),
        (w.block_input_weight_matrix.as_deref(), 1.0),
    ];
    let recursion = [
        (w.input_gate_recursion_matrix.as_deref(), 1.0),
        forget(w.forget_gate_recursion_matrix.as_deref(), w.input_gate_recursion_matrix.as_deref()),
        (w.output_gate_recursion_matrix.as_deref(), 1.0),
        (w.block_input_recursion_matrix.as_deref(), 1.0),
    ];
    let mut inputs =
        vec![matrix(n, ih, &weights, sizes.input, sizes)?, matrix(n, hh, &recursion, sizes.hidden, sizes)?];
    let one = if params.forget_bias && !coupled { 1.0 } else { 0.0 };
    if params.has_bias_vectors {
        let (own, factor) = forget(w.forget_gate_bias_vector.as_deref(), w.input_gate_bias_vector.as_deref());
        let biases = [
            (w.input_gate_bias_vector.as_deref(), 1.0, 0.0),
            (own, factor, one),
            (w.output_gate_bias_vector.as_deref(), 1.0, 0.0),
            (w.block_input_bias_vector.as_deref(), 1.0, 0.0),
        ];
        inputs.push(vector(n, bias, &biases, sizes)?);
    } else if one > 0.0 {
        // The matrices were read before, so the size is one that the file really has.
        let of = |i: usize| if i == 1 { one } else { 0.0 };
        let values: Vec<f32> = (0..4).flat_map(|i| vec![of(i); sizes.hidden]).collect();
        let values = n.constant(tensor_of(&[values.len()], values)?);
        inputs.push(Input::value(bias, values));
    }
    if params.has_peephole_vectors {
        let (own, factor) =
            forget(w.forget_gate_peephole_vector.as_deref(), w.input_gate_peephole_vector.as_deref());
        let peepholes = [
            (w.input_gate_peephole_vector.as_deref(), 1.0, 0.0),
            (own, factor, 0.0),
            (w.output_gate_peephole_vector.as_deref(), 1.0, 0.0),
        ];
        inputs.push(vector(n, peephole, &peepholes, sizes)?);
    }
    Ok(inputs)
}

/// Returns the parameters that all LSTMs have besides weights.
fn cell(params: &LstmParams, activations: &[ActivationParams]) -> Result<Vec<Input>> {
    let gates = activation(activations.first())?;
    if params.coupled_input_and_forget_gate && !matches!(gates.as_str(), Some("sigmoid" | "sigmoid_hard")) {
        return Err(Error::unsupported("coupled gates whose activation is not a sigmoid"));
    }
    let clip = if params.cell_clip_threshold == 0.0 { CELL_CLIP } else { params.cell_clip_threshold };
    Ok(vec![
        Input::constant(param!(Lstm.recurrent_activation), gates),
        Input::constant(param!(Lstm.cell_activation), activation(activations.get(1))?),
        Input::constant(param!(Lstm.activation), activation(activations.get(2))?),
        Input::constant(param!(Lstm.output_sequence), Value::bool(params.sequence_output)),
        Input::constant(param!(Lstm.clip), Value::float(clip)),
    ])
}

fn activation(params: Option<&ActivationParams>) -> Result<Value> {
    let near = |a: f32, b: f32| (a - b).abs() < 1e-4;
    let kind = params.and_then(|p| p.nonlinearity_type.as_ref());
    let name = match kind.ok_or_else(|| Error::malformed("an activation is missing"))? {
        NonlinearityType::Linear(p) if near(p.alpha, 1.0) && near(p.beta, 0.0) => "linear",
        // Without parameters it is the identity.
        NonlinearityType::Linear(p) if p.alpha == 0.0 && p.beta == 0.0 => "linear",
        NonlinearityType::Sigmoid(_) => "sigmoid",
        NonlinearityType::Tanh(_) => "tanh",
        NonlinearityType::ReLu(_) => "relu",
        NonlinearityType::SigmoidHard(p) if near(p.alpha, 0.2) && near(p.beta, 0.5) => "sigmoid_hard",
        NonlinearityType::SigmoidHard(p) if p.alpha == 0.0 && p.beta == 0.0 => "sigmoid_hard",
        NonlinearityType::ScaledTanh(p) if near(p.alpha, 1.0) && near(p.beta, 1.0) => "tanh",
        _ => return Err(Error::unsupported("an activation that recurrent layers here do not have")),
    };
    Ok(Value::string(name))
}

fn direction(reverse: bool) -> Input {
    Input::constant(param!(Lstm.direction), Value::string(if reverse { "reverse" } else { "forward" }))
}

/// Returns the results with five dimensions: the states after every step (or the last), then the last states.
fn results(n: &mut Net, kind: OpKind, inputs: Vec<Input>) -> Result<Vec<ValueId>> {
    let outputs = n.ops(kind, inputs)?;
    let mut results = Vec::with_capacity(outputs.len());
    for (i, output) in outputs.into_iter().enumerate() {
        let axes: &[i32] = if i == 0 { &[3, 4] } else { &[0, 3, 4] };
        results.push(op!(n, ExpandDims, x = output, axes = axes)?);
    }
    Ok(results)
}
