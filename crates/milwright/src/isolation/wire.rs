//! The messages between a session and its worker. Tensors lie in shared memory, and messages refer to them.

use std::path::PathBuf;
use std::time::Duration;

use milwright_cache::{Options, Store, Verify};
use milwright_mil::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::buffers::Buffers;
use crate::{ComputeUnits, Error, ErrorKind, Limits, LoadOptions, Loaded, PlanOrigin, Precision, Result};

/// Both sides must send the same identity: increase the number whenever a message changes.
pub(super) const IDENTITY: &str = concat!("milwright ", env!("CARGO_PKG_VERSION"), ", messages 2");

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Load(Load),
    Predict(Predict),
    /// Sets the session's states to zero.
    Reset,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Load {
    pub backend: String,
    pub model: PathBuf,
    /// The digest of the model that the parent has opened. The file may have changed since.
    pub digest: [u8; 32],
    pub settings: Settings,
}

/// [`LoadOptions`] without the fields that cannot be sent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Settings {
    function: Option<String>,
    threads: usize,
    cache: Option<Cache>,
    precision: Precision,
    compute_units: ComputeUnits,
    /// The limits of memory in bytes and of the time of one prediction.
    limits: (u64, Option<Duration>),
}

#[derive(Debug, Serialize, Deserialize)]
struct Cache {
    folder: PathBuf,
    max_bytes: u64,
    verify_all: bool,
    wait: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Predict {
    pub inputs: Vec<Named>,
    /// The keys of inputs that are dictionaries.
    pub keys: Vec<Named>,
    /// The caller's state; `None` means the session's own.
    pub state: Option<Vec<Named>>,
    /// The time left until the deadline.
    pub left: Option<Duration>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Loaded(Ready),
    Predicted {
        outputs: Vec<Named>,
        classes: Option<Named>,
        /// The keys of outputs that are dictionaries.
        keys: Vec<Named>,
        state: Option<Vec<Named>>,
    },
    Reset,
    Failed(Failure),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ready {
    pub plan: PlanOrigin,
    pub plan_path: Option<PathBuf>,
    pub duration: Duration,
    pub arena_bytes: u64,
    pub weight_bytes: u64,
    /// Element type and shape of each state.
    pub states: Vec<(String, String, Vec<usize>)>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    kind: ErrorKind,
    path: Option<PathBuf>,
    message: String,
    hint: Option<String>,
}

/// A tensor with a name.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Named {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    data: Data,
}

#[derive(Debug, Serialize, Deserialize)]
enum Data {
    /// The index of the blob in shared memory.
    Blob(usize),
    Strings(Vec<String>),
}

impl Settings {
    pub fn new(options: &LoadOptions) -> Settings {
        // The pattern names every field, so that a new field does not compile until it is sent or left out on purpose.
        let LoadOptions { function, threads, cache, precision, compute_units, cancel: _, limits } = options;
        let cache = cache.as_ref().map(|store| {
            let options = store.options();
            Cache {
                folder: std::path::absolute(store.path()).unwrap_or_else(|_| store.path().to_owned()),
                max_bytes: options.max_bytes,
                verify_all: options.verify == Verify::Full,
                wait: options.wait,
            }
        });
        let (precision, compute_units) = (*precision, *compute_units);
        let limits = (limits.memory, limits.prediction);
        Settings { function: function.clone(), threads: *threads, cache, precision, compute_units, limits }
    }

    pub fn into_options(self) -> LoadOptions {
        let open = |cache: Cache| {
            let verify = if cache.verify_all { Verify::Full } else { Verify::Header };
            Store::open(cache.folder, Options { max_bytes: cache.max_bytes, verify, wait: cache.wait })
                .inspect_err(|e| tracing::warn!("running without the cache: {e}"))
                .ok()
        };
        LoadOptions {
            function: self.function,
            threads: self.threads,
            cache: self.cache.and_then(open),
            precision: self.precision,
            compute_units: self.compute_units,
            limits: Limits { memory: self.limits.0, prediction: self.limits.1 },
            ..LoadOptions::default()
        }
    }
}

impl Ready {
    pub fn loaded(&self, backend: &'static str) -> Loaded {
        let &Ready { duration, arena_bytes, weight_bytes, .. } = self;
        let (plan, plan_path) = (self.plan.clone(), self.plan_path.clone());
        Loaded { backend, plan, plan_path, duration, arena_bytes, weight_bytes }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Failure {
        Failure {
            kind: error.kind(),
            path: error.path().map(Into::into),
            message: error.message().to_owned(),
            hint: error.hint().map(str::to_owned),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        let mut error = Error::new(failure.kind, failure.message);
        if let Some(path) = failure.path {
            error = error.at(path);
        }
        match failure.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// Describes a tensor, and adds its bytes to the blobs for shared memory.
pub(super) fn pack<'a>(name: &str, tensor: &'a Tensor, blobs: &mut Vec<&'a [u8]>) -> Named {
    let data = if tensor.dtype() == DType::String {
        Data::Strings(tensor.strings().to_vec())
    } else {
        blobs.push(tensor.bytes());
        Data::Blob(blobs.len() - 1)
    };
    let (name, dtype, shape) = (name.to_owned(), tensor.dtype().name().to_owned(), tensor.shape().to_vec());
    Named { name, dtype, shape, data }
}

/// The inverse of [`pack`]. `blob` is called for the bytes, with a vector to reuse, only if element type, shape and
/// length agree.
pub(super) fn unpack(
    named: Named,
    lens: &[u64],
    buffers: &mut Buffers,
    blob: &mut dyn FnMut(usize, Vec<u8>) -> Result<Vec<u8>, Misfit>,
) -> Result<(String, Tensor), Misfit> {
    let Named { name, dtype, shape, data } = named;
    let misfit = |what: &str| Misfit(format!("`{name}`, a {dtype} of shape {shape:?}, {what}"));
    let parsed: DType = dtype.parse().map_err(|()| misfit("has no element type"))?;
    let tensor = match data {
        Data::Strings(strings) if parsed == DType::String => Tensor::from_strings(&shape, strings),
        Data::Blob(n) if parsed != DType::String => {
            let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            let len = elements.and_then(|n| parsed.byte_len(n)).map(|n| n as u64);
            let Some(len) = len.filter(|len| lens.get(n) == Some(len)) else {
                return Err(misfit("has another number of bytes"));
            };
            Tensor::from_bytes(parsed, &shape, blob(n, buffers.take(len))?.into())
        }
        _ => return Err(misfit("has data of another kind")),
    };
    let tensor = tensor.map_err(|e| misfit(&e.to_string()))?;
    Ok((name, tensor))
}

/// Why a message is invalid.
#[derive(Debug)]
pub(super) struct Misfit(pub String);

impl From<Misfit> for Error {
    fn from(misfit: Misfit) -> Error {
        Error::new(ErrorKind::Malformed, misfit.0)
    }
}

pub(super) fn encode(message: &impl Serialize) -> Result<Vec<u8>> {
    // Only a path that is not Unicode cannot be serialized.
    postcard::to_stdvec(message)
        .map_err(|e| Error::invalid(format!("this cannot be told to a worker process: {e}")))
}
