//! Recurrent networks.

use milwright_formats::onnx::proto::AttributeProto;
use milwright_mil::Tensor;
use milwright_mil::ops::Operand;

use super::graph::{Node, Result, floats, int, text, texts};
use super::implement;
use crate::Error;

type Made = Result<Vec<String>>;

/// ONNX's name of an activation, and its parameters.
fn activation(name: &str) -> Result<(&'static str, f32, f32)> {
    Ok(match name {
        "linear" => ("Affine", 1.0, 0.0),
        "relu" => ("Relu", 0.0, 0.0),
        "sigmoid" => ("Sigmoid", 0.0, 0.0),
        "hard_sigmoid" | "sigmoid_hard" => ("HardSigmoid", 0.2, 0.5),
        "tanh" | "scaled_tanh" => ("Tanh", 0.0, 0.0),
        other => return Err(Error::unsupported(format!("the activation `{other}`"))),
    })
}

fn activations(names: &[&str]) -> Result<Vec<AttributeProto>> {
    let known: Vec<_> = names.iter().map(|name| activation(name)).collect::<Result<_>>()?;
    // Parameters belong to the activations that have some, in their order.
    let with = |name: &str| matches!(name, "Affine" | "HardSigmoid");
    let mut made = vec![texts("activations", known.iter().map(|k| k.0.to_owned()))];
    if known.iter().any(|k| with(k.0)) {
        made.push(floats("activation_alpha", known.iter().filter(|k| with(k.0)).map(|k| k.1).collect()));
        made.push(floats("activation_beta", known.iter().filter(|k| with(k.0)).map(|k| k.2).collect()));
    }
    Ok(made)
}

/// Rows of gates in another order.
fn gates(v: &Operand<'_>, order: &[usize]) -> Result<Vec<f32>> {
    let tensor = v.value().ok_or_else(|| Error::unsupported("weights that are not constants"))?;
    let values: Vec<f32> = tensor.to_f64().into_iter().map(|x| x as f32).collect();
    let part = values.len() / order.len();
    Ok(order.iter().flat_map(|&g| values[g * part..(g + 1) * part].iter().copied()).collect())
}

/// A network in one direction, or both.
struct Net<'p, 'a> {
    x: &'p Operand<'a>,
    op: &'static str,
    hidden: usize,
    /// For each gate of ONNX, which one of MIL it is.
    order: &'static [usize],
    /// For each direction: input weights, state weights, and two biases.
    directions: Vec<[Option<&'p Operand<'a>>; 4]>,
    /// For each direction, the peephole and its order.
    peepholes: Vec<Option<&'p Operand<'a>>>,
    states: Vec<&'p Operand<'a>>,
    reverse: bool,
    all: bool,
    attributes: Vec<AttributeProto>,
}

impl Net<'_, '_> {
    fn lower(self, n: &mut Node<'_, '_>) -> Made {
        let (dtype, count) = (self.x.dtype, self.directions.len());
        let mut x = n.of(self.x)?;
        // States are given in the order in which they are made.
        if self.reverse {
            x = n.flip(&x, &[0]);
        }
        let parts = self.order.len();
        let mut stacked = Vec::new();
        for index in 0..2 {
            let mut values = Vec::new();
            let mut columns = 0;
            for direction in &self.directions {
                let weight = direction[index].ok_or_else(|| Error::malformed("missing weights"))?;
                columns = weight.shape[1].fixed().unwrap_or(0);
                values.extend(gates(weight, self.order)?);
            }
            stacked.push(self.constant(n, &[count, parts * self.hidden, columns], values)?);
        }
        let mut bias = Vec::new();
        for direction in &self.directions {
            for given in &direction[2..] {
                match given {
                    Some(given) => bias.extend(gates(given, self.order)?),
                    None => bias.extend(std::iter::repeat_n(0.0, parts * self.hidden)),
                }
            }
        }
        let bias = self.constant(n, &[count, 2 * parts * self.hidden], bias)?;
        let mut states = Vec::new();
        for state in &self.states {
            if let (Some(rows), Some(batch)) = (state.shape[0].fixed(), self.x.shape[1].fixed())
                && rows != batch
            {
                return Err(Error::unsupported("initial states for more instances than there are"));
            }
            let name = n.of_as(state, dtype)?;
            let split = n.reshape(&name, &[0, count as i64, self.hidden as i64]);
            states.push(n.transpose(&split, &[1, 0, 2]));
        }
        let mut inputs = vec![x, stacked[0].clone(), stacked[1].clone(), bias, String::new()];
        inputs.extend(states);
        if self.peepholes.iter().any(Option::is_some) {
            let mut values = Vec::new();
            for peephole in &self.peepholes {
                let peephole =
                    peephole.ok_or_else(|| Error::unsupported("a peephole in one direction only"))?;
                // i, f, o become i, o, f.
                values.extend(gates(peephole, &[0, 2, 1])?);
            }
            inputs.push(self.constant(n, &[count, 3 * self.hidden], values)?);
        }
        let mut attributes = self.attributes.clone();
        attributes.push(int("hidden_size", self.hidden as i64));
        if count == 2 {
            attributes.push(text("direction", "bidirectional"));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let made = n.add_many(self.op, &inputs, attributes, 1 + self.states.len());
        let width = (count * self.hidden) as i64;
        // [s, D, b, H] and [D, b, H]
        let mut outputs = Vec::new();
        for state in &made[1..] {
            let state = n.transpose(state, &[1, 0, 2]);
            outputs.push(n.reshape(&state, &[0, width]));
        }
        let y = if self.all {
            let y = n.transpose(&made[0], &[0, 2, 1, 3]);
            n.reshape(&y, &[0, 0, width])
        } else {
            n.unsqueeze(&outputs[0], &[0])
        };
        outputs.insert(0, y);
        Ok(outputs)
    }

    fn constant(&self, n: &mut Node<'_, '_>, shape: &[usize], values: Vec<f32>) -> Result<String> {
        let tensor = Tensor::from_vec(shape, values).map_err(|e| Error::malformed(e.to_string()))?;
        let tensor = tensor.converted(self.x.dtype);
        n.constant(&tensor.ok_or_else(|| Error::unsupported("weights of this type"))?)
    }
}

fn hidden(weight: &Operand<'_>) -> Result<usize> {
    weight.shape[1].fixed().ok_or_else(|| Error::unsupported("an open number of units"))
}

implement! {
    Gru: |n, p| {
        // MIL: r, o, z; ONNX: z, r, h.
        let mut attributes = activations(&[p.recurrent_activation, p.activation])?;
        attributes.push(int("linear_before_reset", p.reset_after.into()));
        Net {
            x: &p.x, op: "GRU", hidden: hidden(&p.weight_hh)?, order: &[2, 0, 1],
            directions: vec![[Some(&p.weight_ih), Some(&p.weight_hh), p.input_bias.as_ref(), p.bias.as_ref()]],
            peepholes: Vec::new(), states: vec![&p.initial_h],
            reverse: p.direction == "reverse", all: p.output_sequence, attributes,
        }.lower(n)
    };
    Lstm: |n, p| {
        if p.clip.is_some() {
            return Err(Error::unsupported("a clip of the cell: ONNX clips the gates"));
        }
        // MIL: i, f, o, z; ONNX: i, o, f, c.
        let both = p.direction == "bidirectional";
        let mut directions = vec![[Some(&p.weight_ih), Some(&p.weight_hh), p.bias.as_ref(), None]];
        let mut peepholes = vec![p.peephole.as_ref()];
        let mut names = vec![p.recurrent_activation, p.cell_activation, p.activation];
        if both {
            directions.push([p.weight_ih_back.as_ref(), p.weight_hh_back.as_ref(), p.bias_back.as_ref(), None]);
            peepholes.push(p.peephole_back.as_ref());
            names.extend_from_within(..);
        }
        Net {
            x: &p.x, op: "LSTM", hidden: hidden(&p.weight_hh)?, order: &[0, 2, 1, 3], directions, peepholes,
            states: vec![&p.initial_h, &p.initial_c],
            reverse: p.direction == "reverse", all: p.output_sequence, attributes: activations(&names)?,
        }.lower(n)
    };
    Rnn: |n, p| {
        Net {
            x: &p.x, op: "RNN", hidden: hidden(&p.weight_hh)?, order: &[0],
            directions: vec![[Some(&p.weight_ih), Some(&p.weight_hh), p.bias.as_ref(), None]],
            peepholes: Vec::new(), states: vec![&p.initial_h],
            reverse: p.direction == "reverse", all: p.output_sequence, attributes: activations(&[p.activation])?,
        }.lower(n)
    };
}
