//! The last step of a classifier: from probabilities to a class label.
//!
//! The op `classify` returns a label and a dictionary, which a tensor engine cannot compute. It is removed from the
//! program that the engine compiles, and computed here.

use milwright_mil::{Arg, Checked, OpKind, Tensor, Value, verify};

use crate::{Error, Prediction, Result, largest};

/// The effect of a `classify` op.
#[derive(Clone, Debug)]
pub(crate) struct Classifier {
    /// The output of the compiled function that holds the probabilities.
    source: String,
    /// The name of the label output.
    label: String,
    /// The name of the dictionary output.
    probabilities: String,
    /// A vector of strings or of int64.
    classes: Tensor,
    /// The names of all outputs, in declared order.
    order: Vec<String>,
}

impl Classifier {
    /// Removes the `classify` op from the end of a function, if there is one.
    pub fn detach(program: &Checked, function: &str) -> Result<Option<(Checked, Classifier)>> {
        let Some(f) = program.functions.get(function) else { return Ok(None) };
        let body = &f[f.body];
        let Some(&op) = body.ops.iter().find(|&&op| f[op].kind == OpKind::Classify) else { return Ok(None) };
        let constant = |name: &str| match f[op].args(name) {
            [Arg::Const(v)] => Some(v.clone()),
            [Arg::Value(v)] => f.const_value(*v).cloned(),
            _ => None,
        };
        let classes = constant(milwright_mil::param!(Classify.classes)).and_then(|v| classes(&v));
        let source = f[op].value(milwright_mil::param!(Classify.probabilities));
        let (Some(classes), Some(source), &[label, probabilities]) = (classes, source, &f[op].outputs[..])
        else {
            return Err(Error::new(crate::ErrorKind::Unsupported, "a `classify` op of an unknown form"));
        };
        let name = |v: milwright_mil::ValueId| f[v].name.clone();
        let classifier = Classifier {
            source: name(source),
            label: name(label),
            probabilities: name(probabilities),
            classes,
            order: body.outputs.iter().map(|&v| name(v)).collect(),
        };
        let mut program = (**program).clone();
        let f = program.functions.get_mut(function).expect("it was there a moment ago");
        let body = f.body;
        f[body].ops.retain(|&o| o != op);
        f[body].outputs.retain(|&v| v != label && v != probabilities && v != source);
        f[body].outputs.push(source);
        Ok(Some((verify(program)?, classifier)))
    }

    /// Converts the outputs of the compiled function to the declared ones.
    pub fn finish(&self, outputs: Vec<(String, Tensor)>) -> Prediction {
        let Some((_, scores)) = outputs.iter().find(|(n, _)| *n == self.source) else {
            return Prediction::new(outputs);
        };
        let scores = scores.clone();
        let best = largest(&scores.to_f64());
        let output = |name: &String| {
            let tensor = if *name == self.label {
                match self.classes.to_i64() {
                    Some(numbers) => Tensor::scalar(*numbers.get(best)?),
                    None => Tensor::string(self.classes.strings().get(best)?),
                }
            } else if *name == self.probabilities {
                scores.reshaped(&[scores.elements()]).ok()?
            } else {
                outputs.iter().find(|(n, _)| n == name)?.1.clone()
            };
            Some((name.clone(), tensor))
        };
        Prediction::new(self.order.iter().filter_map(output).collect()).with_classes(self.classes.clone())
    }
}

pub(crate) fn classes(value: &Value) -> Option<Tensor> {
    let tensors: Vec<&Tensor> = match value {
        Value::List(_, values) => values.iter().map(Value::as_tensor).collect::<Option<_>>()?,
        Value::Tensor(t) => vec![t],
        _ => return None,
    };
    let strings: Vec<String> = tensors.iter().flat_map(|t| t.strings().iter().cloned()).collect();
    if strings.is_empty() {
        let numbers = tensors.iter().map(|t| t.to_i64()).collect::<Option<Vec<_>>>()?.concat();
        Tensor::from_vec(&[numbers.len()], numbers).ok()
    } else {
        Tensor::from_strings(&[strings.len()], strings).ok()
    }
}
