//! Graph passes: rewrites that keep what a program computes, exactly or within the rounding of its element types.
//!
//! A pass never changes a function's inputs or outputs: their order, names and types stay. Each pass is one file that
//! shows before and after. A pass says why it did not fire in `tracing` events of level `debug`.

use std::time::{Duration, Instant};

use crate::verify::check;
use crate::{Checked, Evaluate, Function, VerifyErrors, verify};

mod edit;
mod eliminate_dead;
mod fold_batch_norm;
mod fold_constants;
mod fold_pad;
mod fold_scale;
mod fuse_linear;
mod merge_duplicates;
mod recognize_activation;
mod recognize_layer_norm;
mod remove_noops;

use edit::Editor;

/// One pass.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// The name, for lists, reports and tests.
    pub name: &'static str,
    run: fn(&mut Editor<'_>, Option<&dyn Evaluate>),
}

macro_rules! pass {
    ($module:ident) => {
        Pass { name: stringify!($module), run: $module::run }
    };
}

/// What an engine runs before it plans, and what `optimize` writes to files. In this order, because:
pub const ALL: &[Pass] = &[
    // Everything below looks for constants: make all of them first.
    pass!(fold_constants),
    // What later passes match must not be hidden behind casts, reshapes and transposes that do nothing.
    pass!(remove_noops),
    // Equal values must be one value: a pattern that uses `x` twice is found by comparing ids.
    pass!(merge_duplicates),
    // Dead users would make values look shared, and shared values are not fused.
    pass!(eliminate_dead),
    // Decomposed activations and norms, while their parts are untouched by the folding below.
    pass!(recognize_activation),
    pass!(recognize_layer_norm),
    // A normalization becomes part of the convolution; then scales and offsets that followed it do, too.
    pass!(fold_batch_norm),
    pass!(fold_scale),
    // Padding is the convolution's own business; it does not depend on the weights that were just made.
    pass!(fold_pad),
    // After scales and offsets have gone into convolutions, those that are left can be biases of matmuls.
    pass!(fuse_linear),
    // The rewritten constants can be equal again, and the old ones are dead.
    pass!(merge_duplicates),
    pass!(eliminate_dead),
];

/// What a pass did.
#[derive(Clone, Debug)]
pub struct Report {
    /// The pass.
    pub pass: &'static str,
    /// How long it took, over all functions.
    pub duration: Duration,
    /// How many rewrites it made.
    pub changes: usize,
}

/// A pass broke the program: a bug in the pass, which is named so that it can be reported and left out.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the pass `{pass}` made an invalid program:\n{errors}")]
pub struct PassError {
    /// The pass; the last one where only the end result was verified.
    pub pass: &'static str,
    /// What is wrong with its result.
    pub errors: VerifyErrors,
}

/// The pass of this name.
pub fn by_name(name: &str) -> Option<Pass> {
    ALL.iter().copied().find(|p| p.name == name)
}

/// Runs passes over every function. With an engine, constants are folded. The result is verified, and what it does not
/// use any more is freed; debug builds verify after each pass.
///
/// # Errors
/// A pass has a bug.
pub fn run(
    program: Checked,
    passes: &[Pass],
    engine: Option<&dyn Evaluate>,
) -> Result<(Checked, Vec<Report>), PassError> {
    let mut program = program.into_inner();
    let mut reports = Vec::with_capacity(passes.len());
    for pass in passes {
        let _span = tracing::debug_span!("pass", name = pass.name).entered();
        let start = Instant::now();
        let changes = program.functions.values_mut().map(|f| run_on(f, pass, engine)).sum();
        reports.push(Report { pass: pass.name, duration: start.elapsed(), changes });
        if cfg!(debug_assertions) {
            check(&program).map_err(|errors| PassError { pass: pass.name, errors })?;
        }
    }
    let last = passes.last().map_or("none", |p| p.name);
    let mut program = verify(program).map_err(|errors| PassError { pass: last, errors })?.into_inner();
    program.functions.values_mut().for_each(Function::compact);
    let checked = verify(program).map_err(|errors| PassError { pass: "compact", errors })?;
    Ok((checked, reports))
}

fn run_on(function: &mut Function, pass: &Pass, engine: Option<&dyn Evaluate>) -> usize {
    let mut editor = Editor::new(function);
    (pass.run)(&mut editor, engine);
    editor.finish()
}
