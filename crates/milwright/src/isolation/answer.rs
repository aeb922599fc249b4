//! Receives and validates the answers of a worker, which may be damaged, or another program.

use std::collections::{HashMap, HashSet};

use milwright_mil::{DType, Dim, Function, Tensor, TensorType, Type};
use milwright_worker::{Error as WorkerError, Patience, Worker};

use super::buffers::Buffers;
use super::wire::{self, Answer, Misfit, Named, Ready};
use crate::{Error, LoadOptions, Model, Precision, State};

/// An answer whose tensors were copied out of shared memory.
pub(super) enum Answered {
    Loaded {
        ready: Ready,
        states: Vec<(String, DType, Vec<usize>)>,
    },
    Predicted {
        outputs: Vec<(String, Tensor)>,
        classes: Option<Tensor>,
        keys: Vec<(String, Tensor)>,
        state: Vec<(String, Tensor)>,
    },
    Reset,
    Failed(Error),
}

/// The values that an answer has to agree with.
pub(super) struct Expected<'a> {
    pub model: &'a Model,
    pub options: &'a LoadOptions,
    /// The state that went with the request.
    pub state: Option<&'a State>,
}

/// Receives an answer. If it is invalid, kills the worker.
pub(super) fn receive(
    worker: &mut Worker,
    patience: Patience<'_>,
    expected: &Expected<'_>,
    buffers: &mut Buffers,
) -> Result<Answered, WorkerError> {
    let mut reply = worker.receive(patience)?;
    let lens = reply.blob_lens();
    let answered = postcard::from_bytes(&reply.message)
        .map_err(|e| Misfit(format!("a message that is none: {e}")))
        .and_then(|answer| expected.check(answer, &lens, buffers, &mut |n, buffer| reply.blob(n, buffer)));
    answered.map_err(|misfit| reply.refuse(misfit.0))
}

type Blob<'a> = &'a mut dyn FnMut(usize, Vec<u8>) -> Result<Vec<u8>, WorkerError>;

impl Expected<'_> {
    fn check(
        &self,
        answer: Answer,
        lens: &[u64],
        buffers: &mut Buffers,
        blob: Blob<'_>,
    ) -> Result<Answered, Misfit> {
        Ok(match answer {
            Answer::Loaded(ready) => {
                let function = self.model.function(self.options.function.as_deref()).ok();
                let declared = function.map(Function::inputs_by_name).unwrap_or_default();
                let ty = |name: &str| declared.get(name).zip(function).map(|(&input, f)| &f[input].ty);
                let state = |state: &(String, String, Vec<usize>)| self.state(state, ty(&state.0));
                let states = ready.states.iter().map(state).collect::<Result<_, _>>()?;
                Answered::Loaded { ready, states }
            }
            Answer::Predicted { outputs, classes, keys, state } => {
                let function = self.model.function(self.options.function.as_deref()).ok();
                let values = function.into_iter().flat_map(|f| f[f.body].outputs.iter().map(|&v| &f[v]));
                let declared: HashMap<&str, &Type> = values.map(|v| (v.name.as_str(), &v.ty)).collect();
                outputs
                    .iter()
                    .try_for_each(|named| fits_type(named, declared.get(named.name.as_str()).copied()))?;
                let state = state.unwrap_or_default();
                self.same_state(&state)?;
                let mut unpack = |named| {
                    wire::unpack(named, lens, buffers, &mut |n, buffer| {
                        blob(n, buffer).map_err(|e| Misfit(e.to_string()))
                    })
                };
                let outputs: Vec<_> = outputs.into_iter().map(&mut unpack).collect::<Result<_, _>>()?;
                let keys: Vec<_> = keys.into_iter().map(&mut unpack).collect::<Result<_, _>>()?;
                fit(&outputs, &keys)?;
                Answered::Predicted {
                    outputs,
                    classes: classes.map(&mut unpack).transpose()?.map(|(_, tensor)| tensor),
                    keys,
                    state: state.into_iter().map(&mut unpack).collect::<Result<_, _>>()?,
                }
            }
            Answer::Reset => Answered::Reset,
            Answer::Failed(failure) => Answered::Failed(failure.into()),
        })
    }

    /// Checks that this is the state of this type that the model declares.
    fn state(
        &self,
        (name, dtype, shape): &(String, String, Vec<usize>),
        declared: Option<&Type>,
    ) -> Result<(String, DType, Vec<usize>), Misfit> {
        let misfit = || Misfit(format!("the model has no state `{name}`, {dtype} {shape:?}"));
        let Some(Type::State(ty)) = declared else { return Err(misfit()) };
        let ty = ty.as_tensor().ok_or_else(misfit)?;
        let dtype = dtype.parse().map_err(|()| misfit())?;
        if !self.fits(ty, dtype, shape) {
            return Err(misfit());
        }
        Ok((name.clone(), dtype, shape.clone()))
    }

    fn fits(&self, ty: &TensorType, dtype: DType, shape: &[usize]) -> bool {
        let widened = self.options.precision == Precision::Wide && dtype == DType::Fp32;
        (ty.dtype == dtype || widened)
            && ty.rank() == shape.len()
            && ty.shape.iter().zip(shape).all(|(d, &n)| d.agrees(Dim::Fixed(n)))
    }

    /// Checks that all of the state that was sent with the request came back.
    fn same_state(&self, state: &[Named]) -> Result<(), Misfit> {
        let names = self.state.map(State::names).unwrap_or_default();
        let same = |named: &Named| {
            let ours = self.state.and_then(|s| s.read(&named.name).ok());
            ours.is_some_and(|t| t.shape() == named.shape && t.dtype().name() == named.dtype)
        };
        let sent: HashSet<&str> = state.iter().map(|named| named.name.as_str()).collect();
        let whole = names.iter().all(|name| sent.contains(name));
        if whole && names.len() == state.len() && state.iter().all(same) {
            return Ok(());
        }
        Err(Misfit("other states than those that were sent".into()))
    }
}

/// Checks that an output has the number of elements of the type that the model declares. The backend may choose element
/// type and rank: Core ML has no scalars, and a classifier's outputs have names of their own.
fn fits_type(named: &Named, declared: Option<&Type>) -> Result<(), Misfit> {
    let Some(ty) = declared.and_then(Type::as_tensor) else { return Ok(()) };
    let Some(elements) = ty.elements() else { return Ok(()) };
    let found = named.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if found == Some(elements) {
        return Ok(());
    }
    Err(Misfit(format!("the output `{}` is {ty}, not {:?}", named.name, named.shape)))
}

/// Checks that each set of keys belongs to an output and has a key for each value.
fn fit(outputs: &[(String, Tensor)], keys: &[(String, Tensor)]) -> Result<(), Misfit> {
    let outputs: HashMap<&str, &Tensor> =
        outputs.iter().map(|(name, values)| (name.as_str(), values)).collect();
    let unfit = |(name, keys): &&(String, Tensor)| {
        let values = outputs.get(name.as_str());
        values.is_none_or(|values| values.elements() != keys.elements())
    };
    match keys.iter().find(unfit) {
        Some((name, _)) => Err(Misfit(format!("keys of `{name}` that do not fit its values"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/digits.mlpackage");

    /// A valid answer for the digits model, with its blobs.
    fn answer(shape: &[usize], name: &str) -> (Answer, Vec<Vec<u8>>) {
        let probabilities = Tensor::from_vec(shape, vec![0.5f32; shape.iter().product()]).unwrap();
        let digit = Tensor::scalar(3i64);
        let mut blobs = Vec::new();
        let outputs =
            vec![wire::pack("digit", &digit, &mut blobs), wire::pack(name, &probabilities, &mut blobs)];
        let blobs = blobs.iter().map(|b| b.to_vec()).collect();
        (Answer::Predicted { outputs, classes: None, keys: Vec::new(), state: None }, blobs)
    }

    fn check(answer: Answer, blobs: &[Vec<u8>]) -> Result<Answered, Misfit> {
        let model = Model::open(DIGITS).unwrap();
        let expected = Expected { model: &model, options: &LoadOptions::default(), state: None };
        let lens: Vec<u64> = blobs.iter().map(|b| b.len() as u64).collect();
        expected.check(answer, &lens, &mut Buffers::default(), &mut |n, _| Ok(blobs[n].clone()))
    }

    #[test]
    fn right_answers_pass() {
        let (right, blobs) = answer(&[10], "probabilities");
        let Ok(Answered::Predicted { outputs, .. }) = check(right, &blobs) else { panic!() };
        assert_eq!(outputs[0].1, Tensor::scalar(3i64));
        assert_eq!(outputs[1].1.shape(), [10]);
    }

    #[test]
    fn wrong_answers_are_refused() {
        fn change(change: impl Fn(&mut [Named], &mut Vec<Vec<u8>>)) -> String {
            let (mut wrong, mut blobs) = answer(&[10], "probabilities");
            let Answer::Predicted { outputs, .. } = &mut wrong else { unreachable!() };
            change(outputs, &mut blobs);
            check(wrong, &blobs).err().expect("it is refused").0
        }
        assert!(change(|outputs, _| outputs[1].shape = vec![11]).contains("another number of bytes"));
        let huge = vec![usize::MAX, 2];
        assert!(change(|outputs, _| outputs[1].shape = huge.clone()).contains("another number of bytes"));
        assert!(change(|outputs, _| outputs[1].dtype = "fp7".into()).contains("no element type"));
        assert!(change(|outputs, _| outputs[1].dtype = "string".into()).contains("another kind"));
        assert!(change(|_, blobs| drop(blobs.pop())).contains("another number of bytes"));
        assert!(change(|_, blobs| blobs[1].push(0)).contains("another number of bytes"));

        // Keys without an output.
        let (_, blobs) = answer(&[10], "probabilities");
        let all = blobs.iter().map(Vec::as_slice).collect::<Vec<&[u8]>>();
        let (one, ten) = (Tensor::scalar(1i64), Tensor::from_vec(&[10], vec![1i64; 10]).unwrap());
        for (name, keys) in [("digit", &ten), ("probabilities", &one), ("other", &one)] {
            let mut blobs = all.clone();
            let Answer::Predicted { outputs, classes, state, .. } = answer(&[10], "probabilities").0 else {
                unreachable!()
            };
            let keys = vec![wire::pack(name, keys, &mut blobs)];
            let blobs: Vec<Vec<u8>> = blobs.iter().map(|b| b.to_vec()).collect();
            let wrong = check(Answer::Predicted { outputs, classes, keys, state }, &blobs);
            assert!(wrong.err().unwrap().0.contains("do not fit"), "{name}");
        }

        // A state in the answer to a request without one.
        let tensor = Tensor::scalar(1f32);
        let state = Some(vec![wire::pack("cache", &tensor, &mut Vec::new())]);
        let wrong = Answer::Predicted { outputs: Vec::new(), classes: None, keys: Vec::new(), state };
        assert!(check(wrong, &[vec![0; 4]]).err().unwrap().0.contains("other states"));
    }

    #[test]
    fn any_bytes_are_understood_or_refused() {
        let (right, blobs) = answer(&[10], "probabilities");
        let bytes = postcard::to_stdvec(&right).unwrap();
        let model = Model::open(DIGITS).unwrap();
        let expected = Expected { model: &model, options: &LoadOptions::default(), state: None };
        let lens: Vec<u64> = blobs.iter().map(|b| b.len() as u64).collect();
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut wrong = bytes.clone();
                wrong[at] = value;
                let Ok(answer) = postcard::from_bytes::<Answer>(&wrong) else { continue };
                let Ok(answered) =
                    expected.check(answer, &lens, &mut Buffers::default(), &mut |n, _| Ok(blobs[n].clone()))
                else {
                    continue;
                };
                if let Answered::Predicted { outputs, .. } = answered {
                    assert!(outputs.iter().all(|(_, t)| t.bytes().len() <= 40));
                }
            }
        }
    }
}
