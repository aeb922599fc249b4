//! The contract of engines, which run verified programs on plain tensors.
//!
//! ```text
//! Engine ── compile ──▶ Plan ── load ──▶ Executable ── run ──▶ tensors
//!                        └── bytes (a cache keeps them)
//! ```
//!
//! A plan is what compiling gives, and can be written to a file; an executable is a plan with its threads and memory. An
//! engine knows neither files nor the features of models: images, classes, flexible shapes and dictionaries are in the
//! layer above, the crate `milwright`, which is written once for all engines.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::ops::InferError;
use crate::{Checked, OpKind, Tensor};

/// The default limit for the intermediate results of one run, in bytes. Usual models stay far below it.
pub const DEFAULT_MEMORY: u64 = 8 << 30;

/// The most threads that an engine starts for one executable: far more than are ever useful, and far fewer than bring a
/// machine down.
pub const MAX_THREADS: usize = 1024;

/// Something that compiles programs and runs them.
pub trait Engine: Send + Sync {
    /// The name, such as `cpu`.
    fn name(&self) -> &'static str;

    /// What of this machine it uses, in words.
    ///
    /// # Errors
    /// The machine lacks what the engine needs; the text says what.
    fn hardware(&self) -> Result<String, String>;

    /// Identifies what a plan depends on besides the program, its input shapes and the options: the engine's version
    /// and the machine. Cache keys include it.
    fn fingerprint(&self) -> String;

    /// Compiles a function for the given shapes of its inputs. Inputs that `shapes` does not name have the shape that
    /// the function declares.
    ///
    /// # Errors
    /// There is no such function, an input has no fixed shape, an op cannot be run, a run would take more memory than
    /// allowed, or compiling was cancelled.
    fn compile(
        &self,
        program: &Checked,
        function: &str,
        shapes: &[(&str, &[usize])],
        options: CompileOptions<'_>,
    ) -> Result<Box<dyn Plan>, CompileError>;

    /// Reads a plan that [`Plan::write`] has written. Large parts, such as weights, stay slices of `bytes`.
    ///
    /// # Errors
    /// The bytes are damaged, or another version of the engine wrote them. The remedy is to compile again.
    fn read_plan(&self, bytes: Bytes) -> Result<Box<dyn Plan>, PlanError>;
}

/// A compiled function: for one set of input shapes and one kind of machine.
pub trait Plan: Send + Sync {
    /// Writes the plan.
    ///
    /// # Errors
    /// The writer fails.
    fn write(&self, writer: &mut dyn Write) -> io::Result<()>;

    /// Bytes that the intermediate results of one run take, as far as they are known before it.
    fn arena_bytes(&self) -> u64;

    /// Bytes of constants and packed weights.
    fn weight_bytes(&self) -> u64;

    /// Makes the plan ready to run.
    ///
    /// # Errors
    /// The plan is damaged, or the system lacks the threads.
    fn load(&self, options: ExecuteOptions) -> Result<Arc<dyn Executable>, PlanError>;
}

/// A function that is ready to run. Threads share it: runs may overlap.
pub trait Executable: Send + Sync {
    /// Runs the function on named inputs, and returns its outputs in declared order. Inputs of other element types are
    /// converted as [`Tensor::converted`] says.
    ///
    /// # Errors
    /// An input or state is wrong, an op fails on these inputs, memory runs out, or the run is cancelled.
    fn run(
        &self,
        inputs: &[(&str, Tensor)],
        options: RunOptions<'_>,
    ) -> Result<Vec<(String, Tensor)>, RunError>;

    /// Makes states of zeros. If the system lacks the memory for one, it is missing, and the next run reports that.
    fn new_state(&self) -> State;

    /// The ops and the name of each step, in the order of [`RunOptions::times`].
    fn steps(&self) -> Vec<(String, String)>;

    /// What each step costs at least, in the same order; empty if the engine does not say.
    fn costs(&self) -> Vec<StepCost> {
        Vec::new()
    }
}

/// What a step costs at least, as far as its types say. Loops and branches count nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepCost {
    /// Additions and multiplications of floats, and other functions of one element.
    pub flops: u64,
    /// Bytes of the tensors that it reads and writes, each once, in the types that the program declares.
    pub bytes: u64,
}

/// Limits for compiling.
#[derive(Clone, Copy)]
pub struct CompileOptions<'a> {
    /// The bytes that all intermediate results of one run may take. A plan that needs more is refused before anything
    /// is allocated.
    pub memory: u64,
    /// Called between ops; compiling stops if it returns true.
    pub cancel: Option<&'a (dyn Fn() -> bool + Sync)>,
}

/// The [default](DEFAULT_MEMORY) memory limit, and no cancellation.
impl Default for CompileOptions<'_> {
    fn default() -> Self {
        CompileOptions { memory: DEFAULT_MEMORY, cancel: None }
    }
}

/// What an executable may use.
#[derive(Clone, Copy, Debug)]
pub struct ExecuteOptions {
    /// The threads, at most [`MAX_THREADS`]; 0 means one per core. All runs share them.
    pub threads: usize,
    /// The bytes that the intermediate results of one run may take.
    pub memory: u64,
}

/// One thread per core, and the [default](DEFAULT_MEMORY) memory limit.
impl Default for ExecuteOptions {
    fn default() -> Self {
        ExecuteOptions { threads: 0, memory: DEFAULT_MEMORY }
    }
}

/// The optional arguments of a run.
#[derive(Default)]
pub struct RunOptions<'a> {
    /// The states to read and write; required if the function has states.
    pub state: Option<&'a mut State>,
    /// Called before each step; the run stops if it returns true.
    pub cancel: Option<&'a (dyn Fn() -> bool + Sync)>,
    /// Receives how long each step took, in the order of [`Executable::steps`].
    pub times: Option<&'a mut Vec<Duration>>,
}

/// The states of a function: tensors that it keeps between runs, by name. Each caller has its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    tensors: BTreeMap<String, Tensor>,
}

impl State {
    /// The names and tensors of all states, in alphabetical order.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(n, t)| (n.as_str(), t))
    }

    /// The tensor of a state.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Adds a state, or replaces its tensor. The next run checks its type.
    pub fn set(&mut self, name: &str, tensor: Tensor) {
        match self.tensors.get_mut(name) {
            Some(held) => *held = tensor,
            None => drop(self.tensors.insert(name.to_owned(), tensor)),
        }
    }
}

impl FromIterator<(String, Tensor)> for State {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(states: I) -> State {
        State { tensors: states.into_iter().collect() }
    }
}

/// The reason why a function could not be compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct CompileError {
    /// The function.
    pub function: String,
    /// The op that failed and its name, if the error is about one.
    pub op: Option<(OpKind, String)>,
    /// What is wrong.
    pub message: String,
    /// What can be done about it.
    pub hint: Option<&'static str>,
    /// What it depends on.
    pub cause: CompileFault,
}

/// What a compile error depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompileFault {
    /// The program: it cannot be compiled for any shapes.
    Program,
    /// An op: the engine knows it, and has no code for it, or not for this use of it.
    Unsupported,
    /// The shapes of the inputs: an op does not accept the shapes that they lead to. The function may compile for
    /// others.
    Shapes,
    /// A run would take more memory than the limit allows or the system has.
    Memory,
    /// Compiling was cancelled.
    Cancelled,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "function `{}`: ", self.function)?;
        if let Some((kind, name)) = &self.op {
            write!(f, "{} `{name}`: ", kind.name())?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for CompileError {}

/// The reason why an engine cannot run a plan. The remedy is to compile the model again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a usable plan: {0}")]
pub struct PlanError(pub String);

/// The reason why an op cannot be run. Does not name the op.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The op, or this use of it, is known, but the engine has no code for it.
    #[error("known, not supported on this engine: {0}")]
    Unsupported(String),
    /// The op's inputs are wrong in a way that only shows at run time.
    #[error("{0}")]
    Invalid(String),
    /// The op needs more memory than the limit allows or the system has.
    #[error("{0}")]
    Memory(String),
    /// A parameter is missing or unknown.
    #[error(transparent)]
    Parameter(#[from] InferError),
}

impl KernelError {
    /// Makes a [`KernelError::Unsupported`].
    pub fn unsupported(what: impl Into<String>) -> KernelError {
        KernelError::Unsupported(what.into())
    }

    /// Makes a [`KernelError::Invalid`].
    pub fn invalid(what: impl Into<String>) -> KernelError {
        KernelError::Invalid(what.into())
    }
}

/// The reason why a run failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// An input is missing, unknown, or of the wrong type.
    #[error("input `{name}`: {message}")]
    Input {
        /// The input.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// A state is missing or of the wrong type.
    #[error("state `{name}`: {message}")]
    State {
        /// The state.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// An op failed on these inputs.
    #[error("function `{function}`: {kind} `{name}`: {error}")]
    Op {
        /// The function.
        function: String,
        /// The op's name in MIL.
        kind: String,
        /// The name of the op.
        name: String,
        /// The reason.
        error: KernelError,
    },
    /// The system does not have the memory for intermediate results.
    #[error("function `{function}`: {error}")]
    Memory {
        /// The function.
        function: String,
        /// The reason, with the size that is missing.
        error: KernelError,
    },
    /// The run was cancelled.
    #[error("the run was cancelled before `{before}`")]
    Cancelled {
        /// The step that would have run next.
        before: String,
    },
}
