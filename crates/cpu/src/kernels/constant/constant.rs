//! `const`

use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Const;
use milwright_mil::{TensorType, Value};

use crate::{Kernel, KernelError, Prepared};

/// Constants are part of the plan; this runs only where a single op is evaluated.
impl Kernel for Const {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let value = op.op.attributes.get("val").and_then(Value::as_tensor).cloned();
        let value = value.ok_or_else(|| KernelError::unsupported("a constant that is not a tensor"))?;
        Ok(Prepared::dynamic(move |_, _, _| Ok(vec![value.clone()])))
    }
}
