//! Integers of eight bits between ops: `quantize` and `dequantize` around what convolutions, linear layers, pooling and sums
//! compute with.
//!
//! As in coremltools' `linear_quantize_activations`, the pair stands before such an op, and after it or after the activation
//! that follows it. A compiler may join `dequantize → op → activation → quantize` to one op on integers. A value has one pair,
//! which all its users share.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::str::FromStr;

use milwright_mil::{Arg, DType, Function, Input, OpId, OpKind, Opset, Tensor, Type, Value, ValueId, param};

use crate::raise::raise;

/// How the range of a value is found in what was observed of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Range {
    /// From the least to the largest.
    MinMax,
    /// What is left when this share of the magnitudes, in percent, is inside.
    Percentile(f64),
    /// The one with the least squared error.
    #[default]
    Mse,
}

/// How values between ops become integers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Activations {
    /// How ranges are found.
    pub range: Range,
    /// Whether zero points are used, so that ranges need not be symmetric.
    pub asymmetric: bool,
}

/// What was observed of a value: the least and the largest element, and some of its elements.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The least element.
    pub least: f32,
    /// The largest element.
    pub most: f32,
    /// Elements, from all samples and places.
    pub some: Vec<f32>,
}

/// The numbers of a pair of ops: `(x / scale).round() + zero_point`, from −128 to 127.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// The scale.
    pub scale: f32,
    /// The zero point; 0 is left out.
    pub zero_point: i8,
}

/// A value that integers can stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The value.
    pub value: ValueId,
    /// Whether all users take the integers, and not only the ops that compute with them.
    pub for_all: bool,
}

/// Reads `mse`, `minmax` or `percentile=99.9`, and `asymmetric` after a comma.
impl FromStr for Activations {
    type Err = String;

    fn from_str(text: &str) -> Result<Activations, String> {
        let mut found = Activations::default();
        for word in text.split(',').map(str::trim) {
            match word.split_once('=').unwrap_or((word, "")) {
                ("mse", "") => found.range = Range::Mse,
                ("minmax", "") => found.range = Range::MinMax,
                ("percentile", share) => {
                    let percent = share.parse().ok().filter(|p| *p > 50.0 && *p <= 100.0);
                    let percent = percent
                        .ok_or_else(|| format!("`{share}` is no percentage above 50, such as 99.9"))?;
                    found.range = Range::Percentile(percent);
                }
                ("asymmetric", "") => found.asymmetric = true,
                _ => {
                    return Err(format!(
                        "`{word}` is no way to find ranges; there are mse, minmax, percentile=P, and asymmetric after a comma"
                    ));
                }
            }
        }
        Ok(found)
    }
}

impl Seen {
    /// Adds a tensor, of which `most` elements are kept, spread evenly. NaN and infinity do not count.
    pub fn add(&mut self, values: &[f32], most: usize) {
        let finite = || values.iter().copied().filter(|x| x.is_finite());
        // Zero is always within: it is what padding adds.
        self.least = finite().fold(self.least, f32::min);
        self.most = finite().fold(self.most, f32::max);
        let step = values.len().div_ceil(most.max(1)).max(1);
        self.some.extend(values.iter().step_by(step).copied().filter(|x| x.is_finite()));
    }
}

impl Activations {
    /// The numbers for what was observed; `None` if nothing but zeros was, or numbers too large for the type.
    pub fn grid(&self, seen: &Seen, dtype: DType) -> Option<Grid> {
        let (least, most) = (seen.least.min(0.0), seen.most.max(0.0));
        let all = self.of_range(least, most, dtype)?;
        match self.range {
            Range::MinMax => Some(all),
            Range::Percentile(percent) => {
                let mut sorted = seen.some.clone();
                sorted.sort_unstable_by(f32::total_cmp);
                let at = |share: f64| {
                    let last = sorted.len().checked_sub(1)?;
                    Some(sorted[((share * last as f64).round() as usize).min(last)])
                };
                let outside = (1.0 - percent / 100.0) / 2.0;
                let (low, high) = (at(outside)?.min(0.0), at(1.0 - outside)?.max(0.0));
                // What hardly ever differs from zero keeps its range.
                Some(self.of_range(low, high, dtype).unwrap_or(all))
            }
            Range::Mse => {
                let error = |grid: &Grid| {
                    seen.some.iter().map(|&x| f64::from(x - grid.value(x)).powi(2)).sum::<f64>()
                };
                let shares = (1..=20).rev().map(|i| i as f32 / 20.0);
                let both = shares.flat_map(|a| {
                    let others =
                        if self.asymmetric { [a, (a + 0.1).min(1.0), (a - 0.1).max(0.05)] } else { [a; 3] };
                    others.map(|b| (a, b))
                });
                let grids = both.filter_map(|(a, b)| self.of_range(a * least, b * most, dtype));
                let best = grids.map(|grid| (error(&grid), grid)).min_by(|a, b| a.0.total_cmp(&b.0));
                Some(best.map_or(all, |(_, grid)| grid))
            }
        }
    }

    fn of_range(&self, least: f32, most: f32, dtype: DType) -> Option<Grid> {
        let wide = f64::from(most) - f64::from(least);
        let (scale, zero) = if self.asymmetric {
            let scale = wide / 255.0;
            (scale, (-128.0 - f64::from(least) / scale).round())
        } else {
            (f64::from(most.max(-least)) / 127.0, 0.0)
        };
        // As it is stored.
        let scale = match dtype {
            DType::Fp16 => half::f16::from_f64(scale).to_f32(),
            _ => scale as f32,
        };
        let is_usable =
            scale.is_finite() && scale >= if dtype == DType::Fp16 { 6.2e-5 } else { f32::MIN_POSITIVE };
        is_usable.then_some(Grid { scale, zero_point: zero.clamp(-128.0, 127.0) as i8 })
    }
}

impl Grid {
    /// What becomes of a number.
    pub fn value(&self, x: f32) -> f32 {
        let zero = f32::from(self.zero_point);
        let q = ((x / self.scale).round_ties_even() + zero).clamp(-128.0, 127.0);
        (q - zero) * self.scale
    }
}

/// The values of a function's body that integers can stand for.
pub fn places(f: &Function) -> Vec<Place> {
    let body = &f[f.body];
    let mut users: HashMap<ValueId, Vec<OpId>> = HashMap::new();
    for op in f.walk() {
        for value in f[op].values() {
            users.entry(value).or_default().push(op);
        }
    }
    let outputs: HashSet<ValueId> = body.outputs.iter().copied().collect();
    let mut found: Vec<Place> = Vec::new();
    let mut add = |value: ValueId, for_all: bool| match found.iter_mut().find(|p| p.value == value) {
        Some(known) => known.for_all |= for_all,
        None => found.push(Place { value, for_all }),
    };
    for &op in &body.ops {
        let inputs = integer_inputs(f, op);
        if inputs.is_empty() {
            continue;
        }
        inputs.iter().for_each(|&value| add(value, false));
        let Some(mut result) = f[op].outputs.first().copied() else { continue };
        let only = |value: &ValueId| match users.get(value).map(Vec::as_slice) {
            Some([user]) if !outputs.contains(value) => Some(*user),
            _ => None,
        };
        if let Some(next) =
            only(&result).filter(|&next| is_activation(f[next].kind) && body.ops.contains(&next))
        {
            result = f[next].outputs[0];
        }
        // What goes out stays as it is, and so does what is integers already.
        let takes = |user: &OpId| !matches!(f[*user].kind, OpKind::Quantize | OpKind::Classify);
        if !outputs.contains(&result) && users.get(&result).is_some_and(|u| u.iter().all(takes)) {
            add(result, true);
        }
    }
    found
}

/// The inputs of an op that integers can stand for; none for most ops.
fn integer_inputs(f: &Function, op: OpId) -> Vec<ValueId> {
    let of = |names: &[&str]| {
        let found =
            names.iter().map(|name| f[op].value(name).filter(|&v| is_float(f, v) && !is_constant(f, v)));
        found.collect::<Option<Vec<ValueId>>>().unwrap_or_default()
    };
    match f[op].kind {
        OpKind::Conv => of(&[param!(Conv.x)]),
        OpKind::Linear => of(&[param!(Linear.x)]),
        OpKind::AvgPool => of(&[param!(AvgPool.x)]),
        OpKind::MaxPool => of(&[param!(MaxPool.x)]),
        OpKind::Add => of(&[param!(Add.x), param!(Add.y)]),
        _ => Vec::new(),
    }
}

fn is_activation(kind: OpKind) -> bool {
    use OpKind::{LeakyRelu, Relu, Relu6, ScaledTanh, Sigmoid, SigmoidHard, Tanh};
    matches!(kind, Relu | Relu6 | LeakyRelu | Tanh | ScaledTanh | Sigmoid | SigmoidHard)
}

fn is_float(f: &Function, value: ValueId) -> bool {
    matches!(&f[value].ty, Type::Tensor(t) if matches!(t.dtype, DType::Fp16 | DType::Fp32))
}

fn is_constant(f: &Function, value: ValueId) -> bool {
    f.defining_op(value).is_some_and(|op| f[op].kind == OpKind::Const || f[op].kind.is_constexpr())
}

/// Puts a pair of `quantize` and `dequantize` behind each of these values. Raises the function to iOS17, which has them.
pub fn quantize(f: &mut Function, places: &[(Place, Grid)]) {
    if places.is_empty() {
        return;
    }
    raise(f, f.opset.max(Opset::Ios17));
    let mut names: BTreeSet<String> = f.values().map(|(_, v)| v.name.clone()).collect();
    let mut fresh = |base: String| {
        let mut name = base.clone();
        let mut n = 1;
        while !names.insert(name.clone()) {
            name = format!("{base}_{n}");
            n += 1;
        }
        name
    };
    let mut after: HashMap<Option<OpId>, Vec<OpId>> = HashMap::new();
    let mut instead: HashMap<ValueId, (ValueId, bool)> = HashMap::new();
    for (place, grid) in places {
        let value = place.value;
        let (name, ty) = (f[value].name.clone(), f[value].ty.clone());
        let Some(dtype) = ty.as_tensor().map(|t| t.dtype) else { continue };
        let scale = crate::float_tensor(&[grid.scale], &[], dtype);
        let (scale_op, scale) = f.make_const(fresh(format!("{name}_scale")), scale.into());
        let (type_op, output) = f.make_const(fresh(format!("{name}_dtype")), Value::string("int8"));
        let mut made = vec![scale_op, type_op];
        let mut into = vec![Input::value(param!(Quantize.input), value)];
        let mut back = Vec::new();
        if grid.zero_point != 0 {
            let (op, zero) =
                f.make_const(fresh(format!("{name}_zero_point")), Tensor::scalar(grid.zero_point).into());
            made.push(op);
            into.push(Input::value(param!(Quantize.zero_point), zero));
            back.push(Input::value(param!(Dequantize.zero_point), zero));
        }
        into.extend([
            Input::value(param!(Quantize.scale), scale),
            Input::value(param!(Quantize.output_dtype), output),
        ]);
        let mut integers = ty.clone();
        if let Type::Tensor(t) = &mut integers {
            t.dtype = DType::Int8;
        }
        let mut op = |f: &mut Function, kind, inputs, what: &str, ty| {
            let name = fresh(format!("{name}_{what}"));
            let op = f.make_op(kind, inputs, [(name.clone(), ty)]);
            f[op].attributes.insert("name".into(), Value::string(name));
            (op, f[op].outputs[0])
        };
        let (quantized_op, quantized) = op(f, OpKind::Quantize, into, "quantized", integers);
        back.insert(0, Input::value(param!(Dequantize.input), quantized));
        back.push(Input::value(param!(Dequantize.scale), scale));
        let (result_op, result) = op(f, OpKind::Dequantize, back, "dequantized", ty);
        made.extend([quantized_op, result_op]);
        after.entry(f.defining_op(value)).or_default().extend(made);
        instead.insert(value, (result, place.for_all));
    }
    // The ops that take integers; with `for_all`, all but the ones that were just made.
    let new: HashSet<OpId> = after.values().flatten().copied().collect();
    for op in f.walk() {
        if new.contains(&op) {
            continue;
        }
        let takes = integer_inputs(f, op);
        for arg in f[op].inputs.iter_mut().flat_map(|i| &mut i.args) {
            if let Arg::Value(v) = arg
                && let Some(&(result, for_all)) = instead.get(v)
                && (for_all || takes.contains(v))
            {
                *v = result;
            }
        }
    }
    let body = f.body;
    let ops = std::mem::take(&mut f[body].ops);
    let mut all = after.remove(&None).unwrap_or_default();
    for op in ops {
        all.push(op);
        all.extend(after.remove(&Some(op)).unwrap_or_default());
    }
    f[body].ops = all;
}

#[cfg(test)]
mod tests {
    use milwright_mil::text::parse;
    use milwright_mil::verify;

    use super::*;

    const TEXT: &str = "program(1.3) { func main<ios15>(tensor<fp32, [1, 2, 4, 4]> x) {
        tensor<fp32, [2, 2, 1, 1]> w = const()[name = string(\"w\"), val = tensor<fp32, [2, 2, 1, 1]>([1.0, 2.0, 3.0, 4.0])];
        tensor<fp32, [1, 2, 4, 4]> a = conv(x = x, weight = w)[name = string(\"a\")];
        tensor<fp32, [1, 2, 4, 4]> b = relu(x = a)[name = string(\"b\")];
        tensor<fp32, [1, 2, 4, 4]> c = exp(x = x)[name = string(\"c\")];
        tensor<fp32, [1, 2, 4, 4]> d = add(x = b, y = c)[name = string(\"d\")];
        tensor<fp32, [1, 2, 4, 4]> y = softmax(x = d, axis = int32(1))[name = string(\"y\")];
    } -> (y); }";

    #[test]
    fn pairs_stand_where_ops_on_integers_can_be() {
        let mut program = verify(parse(TEXT).unwrap()).unwrap().into_inner();
        let f = &mut program.functions["main"];
        let found = places(f);
        let names: Vec<(&str, bool)> = found.iter().map(|p| (f[p.value].name.as_str(), p.for_all)).collect();
        // `a` is joined with its relu; `x` and `c` have other users; `d` is used by the softmax, too.
        assert_eq!(names, [("x", false), ("b", true), ("c", false), ("d", true)]);
        let grid = Grid { scale: 0.5, zero_point: 0 };
        let all: Vec<_> = found.into_iter().map(|p| (p, grid)).collect();
        quantize(f, &all);
        assert_eq!(f.opset, Opset::Ios17);
        let kinds: Vec<&str> =
            f[f.body].ops.iter().map(|&op| f[op].kind.name()).filter(|k| *k != "const").collect();
        let expected = "quantize dequantize conv relu quantize dequantize exp quantize dequantize add quantize dequantize softmax";
        assert_eq!(kinds.join(" "), expected);
        let exp = f.walk().into_iter().find(|&op| f[op].kind == OpKind::Exp).unwrap();
        assert_eq!(
            f[exp].values().next().map(|v| f[v].name.as_str()),
            Some("x"),
            "what does not take integers keeps it"
        );
        let checked = verify(program).unwrap_or_else(|e| panic!("{e}"));
        assert!(
            places(&checked.functions["main"]).iter().all(|p| !p.for_all),
            "a second time adds nothing behind results"
        );
    }

    #[test]
    fn texts_are_read() {
        let of = |text: &str| text.parse::<Activations>();
        assert_eq!(of("mse").unwrap(), Activations::default());
        let expected = Activations { range: Range::Percentile(99.9), asymmetric: true };
        assert_eq!(of("percentile=99.9,asymmetric").unwrap(), expected);
        for wrong in ["", "int8", "percentile", "percentile=101", "percentile=nan", "minmax=3"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    /// Against the definition: no other range of the grid of candidates has less error, and ranges contain zero.
    #[test]
    fn ranges_are_what_they_say() {
        let mut seen = Seen::default();
        let values: Vec<f32> = (0..2001).map(|i| (i as f32 / 1000.0 - 1.0).powi(3)).chain([40.0]).collect();
        seen.add(&values, usize::MAX);
        let of = |range, asymmetric| Activations { range, asymmetric }.grid(&seen, DType::Fp32).unwrap();
        assert_eq!(of(Range::MinMax, false), Grid { scale: 40.0 / 127.0, zero_point: 0 });
        let both = of(Range::MinMax, true);
        assert_eq!((both.scale, both.zero_point), (41.0 / 255.0, -122));
        assert!(
            (both.value(-1.0) + 1.0).abs() <= both.scale && (both.value(40.0) - 40.0).abs() <= both.scale
        );
        assert_eq!(both.value(0.0), 0.0);
        let most = of(Range::Percentile(99.9), false);
        assert!((most.scale * 127.0 - 1.0).abs() < 0.01, "{most:?}");
        let error = |g: Grid| values.iter().map(|&x| f64::from(x - g.value(x)).powi(2)).sum::<f64>();
        let best = of(Range::Mse, false);
        assert!(error(best) <= error(of(Range::MinMax, false)) && error(best) <= error(most));

        // fp16 holds neither the scale of huge ranges nor that of tiny ones; nothing but zeros has none.
        let grid = |least, most, dtype| {
            Activations::default().grid(&Seen { least, most, some: vec![least, most] }, dtype)
        };
        assert!(grid(0.0, 1e9, DType::Fp16).is_none() && grid(0.0, 1e9, DType::Fp32).is_some());
        assert!(grid(0.0, 1e-4, DType::Fp16).is_none() && grid(0.0, 0.0, DType::Fp32).is_none());
    }
}
