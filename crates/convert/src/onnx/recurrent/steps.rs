//! Lowers a recurrent network step by step, where MIL has no op that computes the same.

use super::*;
use crate::onnx::loops::steps;

/// How many nodes a step that is written out is worth.
const STEP_COST: usize = 20;

/// Lowers a direction step by step.
#[expect(clippy::too_many_arguments, reason = "the parts of one direction")]
pub(super) fn written_out(
    n: &mut Node<'_, '_>,
    network: &Network,
    operands: &Operands,
    d: usize,
    x: ValueId,
    reversed: bool,
    h: ValueId,
    c: Option<ValueId>,
) -> Result<Run> {
    let (kind, hidden) = (network.kind, network.hidden);
    let w = of_direction(n, &operands.weights.w, network, d)?;
    let r = of_direction(n, &operands.weights.r, network, d)?;
    let mut bias = None;
    let mut state_bias = None;
    if let Some(b) = &operands.weights.b {
        let b = of_direction(n, b, network, d)?;
        let half = (kind.gates() * hidden) as i64;
        let input = crate::onnx::slice::cut(n, b, 0, 0, half)?;
        let state = crate::onnx::slice::cut(n, b, 0, half, 2 * half)?;
        // A GRU that resets after the product needs the two apart.
        if network.linear_before_reset {
            (bias, state_bias) = (Some(input), Some(state));
        } else {
            bias = Some(op!(n, Add, x = input, y = state)?);
        }
    }
    let peephole = match &operands.weights.p {
        Some(p) => {
            let p = of_direction(n, p, network, d)?;
            let part = |n: &mut Node<'_, '_>, i: usize| {
                crate::onnx::slice::cut(n, p, 0, (i * hidden) as i64, ((i + 1) * hidden) as i64)
            };
            Some([part(n, 0)?, part(n, 1)?, part(n, 2)?])
        }
        None => None,
    };
    // The product with all inputs at once, [steps, batch, gates · hidden].
    let mut products = op!(n, Matmul, x = x, y = w, transpose_y = true)?;
    if let Some(bias) = bias {
        products = op!(n, Add, x = products, y = bias)?;
    }
    let size = Size::Of(x, 0..1);
    let iterations = n.known_size(&size);
    let length = n.shape(std::slice::from_ref(&size))?;
    let length = n.scalar(length)?;
    let cell = Cell { network, d, r, state_bias, peephole, lengths: operands.lengths };
    let elem = Elem::Float;
    let state = [Some(h), c].into_iter().flatten().map(|v| Val::new(elem, v)).collect();
    let mut step = |n: &mut Importer<'_>, iteration: ValueId, state: Vec<Val>| {
        let mut index = iteration;
        if reversed {
            let last = op!(n, Sub, x = length, y = 1)?;
            index = op!(n, Sub, x = last, y = iteration)?;
        }
        let product = op!(n, Gather, x = products, indices = index, axis = 0)?;
        let h = n.value_of(&state[0])?;
        let c = match state.get(1) {
            Some(c) => Some(n.value_of(c)?),
            None => None,
        };
        let (h, c) = cell.step(n, iteration, product, h, c)?;
        let state = [Some(h), c].into_iter().flatten().map(|v| Val::new(elem, v)).collect();
        Ok((state, vec![Val::new(elem, h)]))
    };
    let (last, all) = steps(n, iterations, length, STEP_COST, state, &mut step)?;
    let y = n.value_of(&all[0])?;
    let h = n.value_of(&last[0])?;
    let c = match last.get(1) {
        Some(c) => Some(n.value_of(c)?),
        None => None,
    };
    Ok(Run { y, h, c })
}

/// One step that is written out.
struct Cell<'a> {
    network: &'a Network,
    d: usize,
    r: ValueId,
    state_bias: Option<ValueId>,
    peephole: Option<[ValueId; 3]>,
    lengths: Option<ValueId>,
}

impl Cell<'_> {
    /// The next state and cell. A sequence that has ended keeps its own.
    fn step<'m>(
        &self,
        n: &mut Importer<'m>,
        iteration: ValueId,
        product: ValueId,
        h: ValueId,
        c: Option<ValueId>,
    ) -> Result<(ValueId, Option<ValueId>)> {
        let seen = if self.network.quantized { rounded(n, h)? } else { h };
        let (new_h, new_c) = match self.network.kind {
            Kind::Lstm => {
                let (h, c) = self.lstm(n, product, seen, c.unwrap_or(h))?;
                (h, Some(c))
            }
            Kind::Gru => (self.gru(n, product, seen)?, None),
            Kind::Rnn => {
                let sum = op!(n, Matmul, x = seen, y = self.r, transpose_y = true)?;
                let sum = op!(n, Add, x = product, y = sum)?;
                (self.activate(n, 0, sum)?, None)
            }
        };
        let Some(lengths) = self.lengths else { return Ok((new_h, new_c)) };
        let goes_on = op!(n, Less, x = iteration, y = lengths)?;
        let goes_on = op!(n, ExpandDims, x = goes_on, axes = &[1][..])?;
        let h = op!(n, Select, cond = goes_on, a = new_h, b = h)?;
        let c = match (new_c, c) {
            (Some(new), Some(old)) => Some(op!(n, Select, cond = goes_on, a = new, b = old)?),
            (new, _) => new,
        };
        Ok((h, c))
    }

    fn lstm(
        &self,
        n: &mut Importer<'_>,
        product: ValueId,
        h: ValueId,
        c: ValueId,
    ) -> Result<(ValueId, ValueId)> {
        let sum = op!(n, Matmul, x = h, y = self.r, transpose_y = true)?;
        let sum = op!(n, Add, x = product, y = sum)?;
        let parts = split(n, sum, 4)?;
        let [mut i, mut o, mut f, z] = parts[..] else {
            return Err(Error::malformed("an LSTM without four gates"));
        };
        if let Some([pi, _, pf]) = self.peephole {
            let part = op!(n, Mul, x = c, y = pi)?;
            i = op!(n, Add, x = i, y = part)?;
            let part = op!(n, Mul, x = c, y = pf)?;
            f = op!(n, Add, x = f, y = part)?;
        }
        let i = self.activate(n, 0, i)?;
        let f =
            if self.network.input_forget { op!(n, Sub, x = 1.0, y = i)? } else { self.activate(n, 0, f)? };
        let z = self.activate(n, 1, z)?;
        let kept = op!(n, Mul, x = f, y = c)?;
        let new = op!(n, Mul, x = i, y = z)?;
        let c = op!(n, Add, x = kept, y = new)?;
        if let Some([_, po, _]) = self.peephole {
            let part = op!(n, Mul, x = c, y = po)?;
            o = op!(n, Add, x = o, y = part)?;
        }
        let o = self.activate(n, 0, o)?;
        let shown = self.activate(n, 2, c)?;
        Ok((op!(n, Mul, x = o, y = shown)?, c))
    }

    fn gru(&self, n: &mut Importer<'_>, product: ValueId, h: ValueId) -> Result<ValueId> {
        let hidden = self.network.hidden as i64;
        let inputs = split(n, product, 3)?;
        // The rows of the update gate, the reset gate and the candidate.
        let mut rows = Vec::with_capacity(3);
        for i in 0..3 {
            rows.push(cut_rows(n, self.r, i * hidden, (i + 1) * hidden)?);
        }
        let mut biases = [None; 3];
        if let Some(bias) = self.state_bias {
            for (i, place) in biases.iter_mut().enumerate() {
                let i = i as i64;
                *place = Some(cut_rows(n, bias, i * hidden, (i + 1) * hidden)?);
            }
        }
        let of_state = |n: &mut Importer<'_>, i: usize, h: ValueId| -> Result<ValueId> {
            let product = op!(n, Matmul, x = h, y = rows[i], transpose_y = true)?;
            match biases[i] {
                Some(bias) => op!(n, Add, x = product, y = bias),
                None => Ok(product),
            }
        };
        let mut gates = Vec::with_capacity(2);
        for (i, &input) in inputs.iter().enumerate().take(2) {
            let product = of_state(n, i, h)?;
            let sum = op!(n, Add, x = input, y = product)?;
            gates.push(self.activate(n, 0, sum)?);
        }
        let (z, r) = (gates[0], gates[1]);
        let product = if self.network.linear_before_reset {
            let product = of_state(n, 2, h)?;
            op!(n, Mul, x = r, y = product)?
        } else {
            let reset = op!(n, Mul, x = r, y = h)?;
            of_state(n, 2, reset)?
        };
        let sum = op!(n, Add, x = inputs[2], y = product)?;
        let candidate = self.activate(n, 1, sum)?;
        let rest = op!(n, Sub, x = 1.0, y = z)?;
        let new = op!(n, Mul, x = rest, y = candidate)?;
        let kept = op!(n, Mul, x = z, y = h)?;
        op!(n, Add, x = new, y = kept)
    }

    /// Applies the activation function of a number, after clipping.
    fn activate(&self, n: &mut Importer<'_>, i: usize, x: ValueId) -> Result<ValueId> {
        let Activation { name, alpha, beta } = &self.network.activations[self.d][i];
        let (alpha, beta) = (*alpha, *beta);
        // The cell that is shown is no input of a gate.
        let is_shown = self.network.kind == Kind::Lstm && i == 2;
        let x = match self.network.clip.filter(|_| !is_shown) {
            Some(clip) => op!(n, Clip, x = x, alpha = -clip, beta = clip)?,
            None => x,
        };
        match name.as_str() {
            "sigmoid" => op!(n, Sigmoid, x = x),
            "tanh" => op!(n, Tanh, x = x),
            "relu" => op!(n, Relu, x = x),
            "softsign" => op!(n, Softsign, x = x),
            "softplus" => op!(n, Softplus, x = x),
            "elu" => op!(n, Elu, x = x, alpha = alpha),
            "leakyrelu" => op!(n, LeakyRelu, x = x, alpha = alpha),
            "hardsigmoid" => op!(n, SigmoidHard, x = x, alpha = alpha, beta = beta),
            "scaledtanh" => op!(n, ScaledTanh, x = x, alpha = alpha, beta = beta),
            "affine" => op!(n, LinearActivation, x = x, alpha = alpha, beta = beta),
            "thresholdedrelu" => {
                let above = op!(n, Greater, x = x, y = alpha)?;
                op!(n, Select, cond = above, a = x, b = 0.0)
            }
            other => Err(Error::unsupported(format!("the activation function {other}"))),
        }
    }
}

/// Cuts the last dimension of a matrix into equal parts.
fn split(n: &mut Importer<'_>, x: ValueId, parts: i32) -> Result<Vec<ValueId>> {
    let inputs = vec![
        In::from(x).named(param!(Split.x)),
        In::from(parts).named(param!(Split.num_splits)),
        In::from(1).named(param!(Split.axis)),
    ];
    n.ops(OpKind::Split, inputs)
}

/// Rows of a matrix, or elements of a vector.
fn cut_rows(n: &mut Importer<'_>, x: ValueId, begin: i64, end: i64) -> Result<ValueId> {
    let rank = n.rank(x)?;
    let (mut begins, mut ends, mut masks) = (vec![0; rank], vec![0; rank], vec![true; rank]);
    (begins[0], ends[0], masks[0]) = (begin as i32, end as i32, false);
    op!(
        n,
        SliceByIndex,
        x = x,
        begin = &begins[..],
        end = &ends[..],
        begin_mask = &masks[..],
        end_mask = &masks[..]
    )
}
