//! Replaces constants by compressed weights.

use std::collections::HashMap;

use milwright_mil::{DType, Function, Input, Opset, Tensor, Value};

use crate::scheme::{Compressed, FloatWeight, Scheme};
use crate::weights::weights;
use crate::{Error, Store, float_values};

/// The result for one weight.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightReport {
    /// The function that the weight is in.
    pub function: String,
    /// The name of the weight: of the `const` op's output.
    pub name: String,
    /// The name of the weight: that of the `const` op's output.
    pub shape: Vec<usize>,
    /// The element type before.
    pub dtype: DType,
    /// Bytes before.
    pub bytes_before: usize,
    /// Bytes after: data, scales and palettes together.
    pub bytes_after: usize,
    /// The signal-to-noise ratio of the weight's elements, in dB. Infinite if nothing was lost; `None` if the weight
    /// was left alone.
    pub snr_db: Option<f64>,
    /// The largest absolute error of an element.
    pub max_error: f64,
    /// The reason why the weight was left alone, if it was.
    pub skipped: Option<String>,
}

impl WeightReport {
    /// The report of a weight that is left alone.
    pub(crate) fn new(function: &str, name: &str, tensor: &Tensor) -> WeightReport {
        WeightReport {
            function: function.to_owned(),
            name: name.to_owned(),
            shape: tensor.shape().to_vec(),
            dtype: tensor.dtype(),
            bytes_before: tensor.bytes().len(),
            bytes_after: tensor.bytes().len(),
            snr_db: None,
            max_error: 0.0,
            skipped: None,
        }
    }
}

/// Compresses the weights of a program's functions, one at a time. A weight that several functions share is compressed
/// once for each form of `constexpr_*` ops that their opsets have.
#[derive(Debug)]
pub(crate) struct Compressor {
    scheme: &'static dyn Scheme,
    /// The oldest opset that can express the result.
    min_opset: Opset,
    done: HashMap<Source, Compressed>,
}

/// The identity of a weight: address, shape, element type, channel axis, and opset of the `constexpr_*` form. Addresses
/// are unique because all weights of a program are in memory until the last is compressed.
type Source = (usize, Vec<usize>, DType, Option<usize>, Opset);

impl Compressor {
    pub fn new(scheme: &'static dyn Scheme, min_opset: Opset) -> Compressor {
        Compressor { scheme, min_opset, done: HashMap::new() }
    }

    /// Compresses every weight of a function.
    pub fn compress(
        &mut self,
        name: &str,
        function: &mut Function,
        store: &mut dyn Store,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<WeightReport>, Error> {
        let found = weights(function);
        if found.is_empty() {
            return Ok(Vec::new());
        }
        function.opset = function.opset.max(self.min_opset);
        let mut reports = Vec::with_capacity(found.len());
        for weight in found {
            let tensor = function.const_value(weight.value).and_then(Value::as_tensor).cloned();
            let tensor = tensor.expect("`weights` finds constant tensors");
            let mut report = WeightReport::new(name, &function[weight.value].name, &tensor);
            match self.compress_one(&tensor, weight.channel_axis, function.opset, store)? {
                Ok(compressed) => {
                    report.bytes_after = compressed.inputs.iter().map(|(_, t)| t.bytes().len()).sum();
                    (report.snr_db, report.max_error) = (Some(compressed.loss.snr_db()), compressed.loss.max);
                    // The op replaces the constant under the same op name and value, so that nothing else changes.
                    let op = &mut function[weight.op];
                    op.kind = compressed.kind;
                    let input = |(name, tensor): (&'static str, Tensor)| Input::constant(name, tensor);
                    op.inputs = compressed.inputs.into_iter().map(input).collect();
                    op.attributes.shift_remove("val");
                }
                Err(why) => report.skipped = Some(why.into()),
            }
            reports.push(report);
            progress(tensor.elements());
        }
        Ok(reports)
    }

    /// Returns the compressed weight, or why it is left alone.
    fn compress_one(
        &mut self,
        tensor: &Tensor,
        channel_axis: Option<usize>,
        opset: Opset,
        store: &mut dyn Store,
    ) -> Result<Result<Compressed, &'static str>, Error> {
        let (shape, dtype) = (tensor.shape(), tensor.dtype());
        let form = constexpr_form(opset);
        let source = (tensor.bytes().as_ptr().addr(), shape.to_vec(), dtype, channel_axis, form);
        if let Some(compressed) = self.done.get(&source) {
            return Ok(Ok(compressed.clone()));
        }
        let values = float_values(tensor);
        if !values.iter().all(|x| x.is_finite()) {
            return Ok(Err("has NaN or infinity"));
        }
        let weight = FloatWeight { values: &values, shape, dtype, channel_axis };
        let mut compressed = match self.scheme.compress(&weight, form) {
            Ok(compressed) => compressed,
            Err(why) => return Ok(Err(why)),
        };
        drop(values);
        for (_, tensor) in &mut compressed.inputs {
            *tensor = store.store(tensor.clone())?;
        }
        self.done.insert(source, compressed.clone());
        Ok(Ok(compressed))
    }
}

/// Returns the opset that introduced the form that `constexpr_*` ops have in `opset`.
fn constexpr_form(opset: Opset) -> Opset {
    if opset >= Opset::Ios18 { Opset::Ios18 } else { Opset::Ios16 }
}
