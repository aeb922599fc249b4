//! The contract between the engine and the kernel of one op.
//!
//! A kernel is prepared from the op's typed parameters, [`Params`], into what runs: [`Prepared`]. When it runs, its inputs
//! are a flat list: all tensors bound to its parameters, in the order of the op's inputs; each tensor of a list counts. A
//! *slot* is a position in that list, and an operand of `Params` knows its slot. Constants have slots, too: a kernel may
//! read a constant when it is prepared or when it runs.

use std::fmt;

use bytes::Bytes;
use milwright_mil::ops::OpDef;
use milwright_mil::{Tensor, TensorType, Type};

use crate::chain::Epilogue;
use crate::simple::Simple;
use crate::{KernelError, Memory, Pool, View, ViewMut};

/// The parameters of an op.
pub type Params<'a, Op> = <Op as OpDef>::Params<'a>;

/// The kernel of one op.
///
/// The engine calls `prepare` when all shapes are known: when it compiles and when it loads a plan, or during a run if
/// shapes depend on data. `prepare` must be cheap. Expensive work that depends only on constants belongs in
/// [`pack`](Kernel::pack), whose result is stored in the plan.
pub trait Kernel: OpDef + Sized {
    /// Whether the engine can run the op.
    const SUPPORT: Support = Support::Kernel;

    /// Chooses how to run an op. `outputs` are the types of its results.
    ///
    /// # Errors
    /// The kernel cannot run the op with these types and parameters; the text says what is missing. The caller adds
    /// which op it was.
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError>;

    /// Packs constant inputs at compile time into the layout that the kernel reads; `None` if packing gains nothing.
    ///
    /// # Errors
    /// As [`prepare`](Kernel::prepare).
    fn pack(_p: &Params<'_, Self>, _outputs: &[TensorType]) -> Result<Option<Packed>, KernelError> {
        Ok(None)
    }

    /// Like [`prepare`](Kernel::prepare), given the result of [`pack`](Kernel::pack) from a machine with the same CPU
    /// features.
    ///
    /// # Errors
    /// As [`prepare`](Kernel::prepare); also if this kernel cannot have made `packed`.
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
    /// The op is known, but the engine cannot run it; the text says why.
    No(&'static str),
}

/// How the engine will run an op.
pub enum Prepared {
    /// A function that fills the outputs.
    Step(Step),
    /// An element-wise function of floats. The compiler runs it alone, fuses it with others, or makes it a part of the
    /// epilogue of the step before it.
    Map(Map),
    /// The only output is the tensor in this slot with another shape, so that nothing needs to run.
    Alias(usize),
    /// A function that allocates its outputs, because their shapes depend on data.
    Dynamic(DynamicFn),
}

/// Computes outputs with data-dependent shapes from inputs.
pub type DynamicFn =
    Box<dyn Fn(&[View<'_>], &Pool, &Memory) -> Result<Vec<Tensor>, KernelError> + Send + Sync>;

/// A function that fills the preallocated outputs of an op.
pub struct Step {
    /// The function.
    pub run: StepFn,
    /// Bytes of scratch memory that it needs. They hold arbitrary old contents.
    pub scratch: usize,
    /// Whether it passes every element of output 0 through [`Run::epilogue`], so that the element-wise functions after it
    /// can run there.
    pub epilogue: bool,
    /// The slot of a tensor that output 0 may take the place of. When it does, the step finds the tensor's elements in
    /// output 0, and the tensor's own view has no bytes.
    pub updates: Option<usize>,
    /// A word that tells variants of a kernel apart in profiles, such as `gemm-avx512`; may be empty.
    pub variant: &'static str,
}

/// Fills the outputs of an op.
pub type StepFn = Box<dyn Fn(&mut Run<'_>) -> Result<(), KernelError> + Send + Sync>;

/// The arguments of a step.
pub struct Run<'a> {
    /// The inputs, by slot. A constant that [`Packed::slots`] names is not kept: its view has no bytes.
    pub inputs: &'a [View<'a>],
    /// The outputs.
    pub outputs: Vec<ViewMut<'a>>,
    /// As many bytes of scratch memory as the step asked for, aligned to 64.
    pub scratch: &'a mut [u8],
    /// The threads.
    pub pool: &'a Pool,
    /// The epilogue: a step that takes one applies it to every element of output 0.
    pub epilogue: Epilogue<'a>,
}

/// An element-wise function of floats. The engine widens its operands to `f32`, broadcasts them to the shape of the
/// output, and rounds the result to the output's element type.
pub struct Map {
    /// The same function in a form that runs in registers, if it has one.
    pub simple: Option<Simple>,
    /// Computes a block: all operands and the output have the same length.
    pub run: MapFn,
    /// The operands.
    pub operands: Vec<Operand>,
}

/// Computes a block of an element-wise function. Its arguments are the operands and the output.
pub type MapFn = Box<dyn Fn(&[&[f32]], &mut [f32]) + Send + Sync>;

/// An operand of a [`Map`].
pub enum Operand {
    /// The tensor in this slot, broadcast to the output's shape as in NumPy.
    Slot(usize),
    /// An fp32 constant that the kernel computed from others, broadcast likewise.
    Constant(Tensor),
}

/// Constants in the layout that a kernel reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed {
    /// Numbers whose meaning only the kernel knows, such as the layout that it chose.
    pub params: Vec<u64>,
    /// The data: aligned to 64, possibly in a memory-mapped file.
    pub data: Bytes,
    /// The slots of constants that the kernel reads only in this form: the plan does not keep the originals.
    pub slots: Vec<usize>,
}

impl Prepared {
    /// A step without scratch memory and without an epilogue.
    pub fn step(run: impl Fn(&mut Run<'_>) -> Result<(), KernelError> + Send + Sync + 'static) -> Prepared {
        Prepared::Step(Step::new(run))
    }

    /// A step with data-dependent output shapes.
    pub fn dynamic(
        run: impl Fn(&[View<'_>], &Pool, &Memory) -> Result<Vec<Tensor>, KernelError> + Send + Sync + 'static,
    ) -> Prepared {
        Prepared::Dynamic(Box::new(run))
    }

    /// An element-wise function of one slot. `f` gets the input and the output.
    pub fn unary(slot: usize, f: impl Fn(&[f32], &mut [f32]) + Send + Sync + 'static) -> Prepared {
        let run = Box::new(move |x: &[&[f32]], out: &mut [f32]| f(x[0], out));
        Prepared::Map(Map { simple: None, run, operands: vec![Operand::Slot(slot)] })
    }

    /// An element-wise function of two slots, broadcast. The function gets both inputs and the output.
    pub fn binary(
        slots: [usize; 2],
        f: impl Fn(&[f32], &[f32], &mut [f32]) + Send + Sync + 'static,
    ) -> Prepared {
        let run = Box::new(move |x: &[&[f32]], out: &mut [f32]| f(x[0], x[1], out));
        Prepared::Map(Map { simple: None, run, operands: slots.map(Operand::Slot).into() })
    }

    /// Declares that an element-wise function is this one, so that it can run in registers.
    pub(crate) fn simple(mut self, function: Simple) -> Prepared {
        if let Prepared::Map(map) = &mut self {
            map.simple = Some(function);
        }
        self
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
        Step { run: Box::new(run), scratch: 0, epilogue: false, updates: None, variant: "" }
    }

    /// Sets the bytes of scratch memory that the step needs.
    pub fn with_scratch(mut self, bytes: usize) -> Step {
        self.scratch = bytes;
        self
    }

    /// Declares that the step calls [`Epilogue::apply`] on every element of output 0 before it rounds the element.
    pub fn with_epilogue(mut self) -> Step {
        self.epilogue = true;
        self
    }

    /// Declares that output 0 may take the place of the tensor in a slot: see [`Step::updates`]. The step must then begin
    /// with [`Run::take`].
    pub fn updating(mut self, slot: usize) -> Step {
        self.updates = Some(slot);
        self
    }

    /// Names the step's variant for profiles.
    pub fn named(mut self, variant: &'static str) -> Step {
        self.variant = variant;
        self
    }
}

impl Run<'_> {
    /// Makes output 0 equal to the tensor in a slot, for a step that then updates it; does nothing if output 0 has taken
    /// that tensor's place.
    pub fn take(&mut self, slot: usize) {
        let from = self.inputs[slot].bytes();
        if !from.is_empty() {
            self.outputs[0].bytes().copy_from_slice(from);
        }
    }

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
/// A dimension is unknown.
pub fn concrete(ty: &TensorType) -> Result<Vec<usize>, KernelError> {
    ty.fixed_shape().ok_or_else(|| KernelError::unsupported(format!("{ty} has no fixed shape here")))
}

/// Returns the types of an op's outputs, which must be tensors.
///
/// # Errors
/// An output is not a tensor.
pub(crate) fn tensor_types(types: &[Type]) -> Result<Vec<TensorType>, KernelError> {
    let tensor = |t: &Type| match t {
        Type::Tensor(t) => Ok(t.clone()),
        t => Err(KernelError::unsupported(format!("a result of type {t}"))),
    };
    types.iter().map(tensor).collect()
}
