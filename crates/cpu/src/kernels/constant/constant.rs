//! `const`

use milwright_mil::ops::defs::Const;
use milwright_mil::{TensorType, Value};

use crate::{Kernel, KernelError, Params, Prepared};

/// Plans hold constants as data; this kernel runs only when a single op is evaluated.
impl Kernel for Const {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let value = p.view.constant.and_then(Value::as_tensor).cloned();
        let value = value.ok_or_else(|| KernelError::unsupported("a constant that is not a tensor"))?;
        Ok(Prepared::dynamic(move |_, _, _| Ok(vec![value.clone()])))
    }
}
