//! Graph passes: rewrites that preserve what a program computes, exactly or within the rounding of its element types.
//!
//! A pass never changes the order, names or types of a function's inputs and outputs. Each pass is in a file that shows
//! an example before and after. If a pattern almost matches, the pass says in a `tracing` event of level `debug` why
//! not.

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
mod hoist_rows;
mod merge_duplicates;
mod recognize_activation;
mod recognize_layer_norm;
mod remove_noops;

use edit::Editor;

/// A graph pass.
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

/// The passes that an engine runs before it plans, and that `optimize` runs on files. The reasons for their order:
pub const ALL: &[Pass] = &[
    // All passes below look for constants, so make all constants first.
    pass!(fold_constants),
    // Casts, reshapes and transposes that do nothing must not hide patterns from later passes.
    pass!(remove_noops),
    // Patterns that use `x` twice compare ids, so equal values must be one value.
    pass!(merge_duplicates),
    // Dead users would make values look shared, and shared values are not fused.
    pass!(eliminate_dead),
    // Decomposed activations and norms must be found before the folding below changes their parts.
    pass!(recognize_activation),
    pass!(recognize_layer_norm),
    // After a normalization is folded into the convolution, scales and offsets after it can be, too.
    pass!(fold_batch_norm),
    pass!(fold_scale),
    // Folding a pad does not depend on the weights that were just made.
    pass!(fold_pad),
    // Scales and offsets that were not folded into convolutions can become biases of matmuls.
    pass!(fuse_linear),
    // Rewritten constants can make ops equal again, and leave dead ops behind.
    pass!(merge_duplicates),
    pass!(eliminate_dead),
];

/// The passes that an engine runs after [`ALL`]. They do not suit files: they make a program faster on a CPU, not
/// simpler.
pub const ENGINE: &[Pass] = &[
    // Constants inside of loops must be visible as such.
    pass!(hoist_rows),
    pass!(eliminate_dead),
];

/// The result of a pass.
#[derive(Clone, Debug)]
pub struct Report {
    /// The pass.
    pub pass: &'static str,
    /// The time that the pass took, over all functions.
    pub duration: Duration,
    /// The number of rewrites.
    pub changes: usize,
}

/// The error that a pass broke the program: a bug in the pass. Names the pass, so that it can be reported and left out.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the pass `{pass}` made an invalid program:\n{errors}")]
pub struct PassError {
    /// The pass; in builds that verify only the end result, the last one.
    pub pass: &'static str,
    /// The errors in its result.
    pub errors: VerifyErrors,
}

/// Returns the pass of this name.
pub fn by_name(name: &str) -> Option<Pass> {
    ALL.iter().chain(ENGINE).copied().find(|p| p.name == name)
}

/// Runs passes over every function. With an engine, constants are folded. Verifies the result and frees what it does
/// not use any more; debug builds verify after each pass.
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
    let checked = verify(program).map_err(|errors| PassError { pass: last, errors })?;
    let checked = checked.compacted().map_err(|errors| PassError { pass: "compact", errors })?;
    Ok((checked, reports))
}

fn run_on(function: &mut Function, pass: &Pass, engine: Option<&dyn Evaluate>) -> usize {
    let mut editor = Editor::new(function);
    (pass.run)(&mut editor, engine);
    editor.finish()
}
