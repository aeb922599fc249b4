//! The contract between the engine and the code of one op.
//!
//! A kernel prepares from the op's typed parameters, [`Params`]. When it runs, everything bound to them, in the order of
//! the op's inputs and with lists spread out, makes one list of *slots*; an operand knows its own. Constants have slots as
//! well, so that a kernel may read one when it prepares or when it runs.

use std::fmt;

use bytes::Bytes;
use milwright_mil::ops::{InferError, OpDef};
use milwright_mil::{Tensor, TensorType, Type};

use crate::chain::Epilogue;
use crate::{Memory, Pool, View, ViewMut};

/// The parameters of an op.
pub type Params<'a, Op> = <Op as OpDef>::Params<'a>;

/// The code of one op.
///
/// `prepare` is called when all shapes are known: for a plan when it is loaded, for data-dependent shapes at run
/// time. It must be cheap; what is expensive and depends only on constants goes into [`pack`](Kernel::pack), whose
/// result is kept in the plan's file.
pub trait Kernel: OpDef + Sized {
    /// Whether there is code for the op.
    const SUPPORT: Support = Support::Kernel;

    /// Chooses how to run an op. `outputs` are the types of its results.
    ///
    /// # Errors
    /// The op cannot run this way; the text says what is missing. The caller adds where.
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError>;

    /// Lays out constant inputs as the kernel reads them, once, at compile time; `None` if there is nothing to gain.
    ///
    /// # Errors
    /// As [`prepare`](Kernel::prepare).
    fn pack(_p: &Params<'_, Self>, _outputs: &[TensorType]) -> Result<Option<Packed>, KernelError> {
        Ok(None)
    }

    /// [`prepare`](Kernel::prepare), with what [`pack`](Kernel::pack) made on a machine with the same CPU features.
    ///
    /// # Errors
    /// As [`prepare`](Kernel::prepare); also where `packed` is not what this kernel makes.
    fn prepare_packed(
        p: &Params<'_, Self>,
        outputs: &[TensorType],
        _packed: Packed,
    ) -> Result<Prepared, KernelError> {
        Self::prepare(p, outputs)
    }
}

/// Whether the engine can run an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// A kernel runs it.
    Kernel,
    /// The engine itself runs it: control flow, states, lists.
    Engine,
    /// It is known, but cannot be run; the text says why.
    No(&'static str),
}

/// How an op will be run.
pub enum Prepared {
    /// A function that fills the outputs.
    Step(Step),
    /// An element-wise function of floats, which the planner runs alone, in a fused chain, or in the epilogue of
    /// another kernel.
    Map(Map),
    /// The only output is the tensor in this slot, in another shape: nothing runs.
    Alias(usize),
    /// A function that makes its outputs, whose shapes depend on data.
    Dynamic(DynamicFn),
}

/// Makes outputs from inputs.
pub type DynamicFn =
    Box<dyn Fn(&[View<'_>], &Pool, &Memory) -> Result<Vec<Tensor>, KernelError> + Send + Sync>;

/// A function that fills the outputs of an op.
pub struct Step {
    /// The function.
    pub run: StepFn,
    /// Bytes of scratch memory that it wants; they come uninitialized, in the sense that old contents are arbitrary.
    pub scratch: usize,
    /// Whether it passes every element of output 0 through [`Run::epilogue`].
    pub epilogue: bool,
    /// A word for profiles that tells kernels of one op apart, such as `gemm-avx512`; may be empty.
    pub variant: &'static str,
}

/// Fills the outputs of an op.
pub type StepFn = Box<dyn Fn(&mut Run<'_>) -> Result<(), KernelError> + Send + Sync>;

/// What a step gets to work with.
pub struct Run<'a> {
    /// The inputs, by slot. A slot that was packed is a view without bytes.
    pub inputs: &'a [View<'a>],
    /// The outputs.
    pub outputs: Vec<ViewMut<'a>>,
    /// As many bytes as the step wanted, aligned to 64.
    pub scratch: &'a mut [u8],
    /// The threads.
    pub pool: &'a Pool,
    /// What to do to each element of output 0, for kernels that said they can.
    pub epilogue: Epilogue<'a>,
}

/// An element-wise function of floats. The engine widens operands to `f32`, broadcasts them to the shape of the
/// output, and rounds the result to its element type.
pub struct Map {
    /// Computes a block: all operands and the output have the same length.
    pub run: MapFn,
    /// What it works on.
    pub operands: Vec<Operand>,
}

/// Computes a block of an element-wise function: operands, then the output.
pub type MapFn = Box<dyn Fn(&[&[f32]], &mut [f32]) + Send + Sync>;

/// An operand of a [`Map`].
pub enum Operand {
    /// The tensor in this slot, broadcast to the output as NumPy does.
    Slot(usize),
    /// A constant that the kernel made from others, broadcast likewise: fp32.
    Constant(Tensor),
}

/// Constants as a kernel reads them.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed {
    /// Numbers of the kernel's own, such as the layout that it chose.
    pub params: Vec<u64>,
    /// The data: aligned to 64, perhaps in a memory-mapped file.
    pub data: Bytes,
    /// The slots whose constants need not be kept.
    pub slots: Vec<usize>,
}

/// Why an op cannot be run: what, not where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The op, or this use of it, is known but there is no code for it.
    #[error("known, not supported on this engine: {0}")]
    Unsupported(String),
    /// The op's inputs are wrong in a way that shows only when it runs.
    #[error("{0}")]
    Invalid(String),
    /// It needs more memory than it may take, or than there is.
    #[error("{0}")]
    Memory(String),
    /// A parameter is missing or not known.
    #[error(transparent)]
    Parameter(#[from] InferError),
}

impl KernelError {
    /// [`KernelError::Unsupported`].
    pub fn unsupported(what: impl Into<String>) -> KernelError {
        KernelError::Unsupported(what.into())
    }

    /// [`KernelError::Invalid`].
    pub fn invalid(what: impl Into<String>) -> KernelError {
        KernelError::Invalid(what.into())
    }
}

impl Prepared {
    /// A plain step.
    pub fn step(run: impl Fn(&mut Run<'_>) -> Result<(), KernelError> + Send + Sync + 'static) -> Prepared {
        Prepared::Step(Step::new(run))
    }

    /// A step with data-dependent output shapes.
    pub fn dynamic(
        run: impl Fn(&[View<'_>], &Pool, &Memory) -> Result<Vec<Tensor>, KernelError> + Send + Sync + 'static,
    ) -> Prepared {
        Prepared::Dynamic(Box::new(run))
    }

    /// An element-wise function of one slot: it is called with input and output.
    pub fn unary(slot: usize, f: impl Fn(&[f32], &mut [f32]) + Send + Sync + 'static) -> Prepared {
        let run = Box::new(move |x: &[&[f32]], out: &mut [f32]| f(x[0], out));
        Prepared::Map(Map { run, operands: vec![Operand::Slot(slot)] })
    }

    /// An element-wise function of two slots, broadcast: it is called with both inputs and the output.
    pub fn binary(
        slots: [usize; 2],
        f: impl Fn(&[f32], &[f32], &mut [f32]) + Send + Sync + 'static,
    ) -> Prepared {
        let run = Box::new(move |x: &[&[f32]], out: &mut [f32]| f(x[0], x[1], out));
        Prepared::Map(Map { run, operands: slots.map(Operand::Slot).into() })
    }
}

impl From<Step> for Prepared {
    fn from(step: Step) -> Prepared {
        Prepared::Step(step)
    }
}

impl Step {
    /// A step without scratch memory.
    pub fn new(run: impl Fn(&mut Run<'_>) -> Result<(), KernelError> + Send + Sync + 'static) -> Step {
        Step { run: Box::new(run), scratch: 0, epilogue: false, variant: "" }
    }

    /// The same step, which wants scratch memory.
    pub fn with_scratch(mut self, bytes: usize) -> Step {
        self.scratch = bytes;
        self
    }

    /// The same step, which calls [`Epilogue::apply`] on every element of output 0 before it is rounded.
    pub fn with_epilogue(mut self) -> Step {
        self.epilogue = true;
        self
    }

    /// The same step under a name for profiles.
    pub fn named(mut self, variant: &'static str) -> Step {
        self.variant = variant;
        self
    }
}

impl Run<'_> {
    /// The first `len` floats of the scratch memory.
    pub fn scratch_f32(&mut self, len: usize) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(self.scratch)[..len]
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Prepared::Step(s) => {
                write!(f, "Step({:?}, scratch {}, epilogue {})", s.variant, s.scratch, s.epilogue)
            }
            Prepared::Map(m) => write!(f, "Map of {}", m.operands.len()),
            Prepared::Alias(slot) => write!(f, "Alias({slot})"),
            Prepared::Dynamic(_) => f.write_str("Dynamic"),
        }
    }
}

/// The shape of a tensor type.
///
/// # Errors
/// A dimension is not known yet.
pub fn concrete(ty: &TensorType) -> Result<Vec<usize>, KernelError> {
    ty.fixed_shape().ok_or_else(|| KernelError::unsupported(format!("{ty} has no fixed shape here")))
}

/// The tensor types among an op's outputs.
///
/// # Errors
/// One is not a tensor.
pub(crate) fn tensor_types(types: &[Type]) -> Result<Vec<TensorType>, KernelError> {
    let tensor = |t: &Type| match t {
        Type::Tensor(t) => Ok(t.clone()),
        t => Err(KernelError::unsupported(format!("a result of type {t}"))),
    };
    types.iter().map(tensor).collect()
}
