//! Where models run: the list of backends, and what each [`Target`] resolves to.

use std::fmt;
use std::sync::Arc;

use milwright_cpu::{CpuEngine, Eager};
use milwright_mil::Evaluate;
use milwright_mil::engine::Engine;
use serde::Serialize;

use crate::coreml::CoreMl;
use crate::engine::OnEngine;
use crate::words::words;
use crate::{Availability, Backend, ComputeUnits, Error, ErrorKind, LoadOptions, LoadedModel, Model, Result};

/// What a model should run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The best that this machine offers.
    #[default]
    Auto,
    /// Apple's Neural Engine.
    Ane,
    /// Apple's GPU.
    Gpu,
    /// The CPU: Milwright's own engine.
    Cpu,
}

words!(Target, "target", "auto" => Auto, "ane" => Ane, "gpu" => Gpu, "cpu" => Cpu);

/// Every backend, the preferred one first.
pub fn backends() -> Vec<Box<dyn Backend>> {
    Vec::from([
        Box::new(CoreMl) as Box<dyn Backend>,
        #[cfg(feature = "swift")]
        Box::new(crate::Swift),
        Box::new(Cpu),
    ])
}

/// The backend on which models are compared, calibrated, optimized and proved. It runs on every machine, and gives the
/// same bits each time.
pub(crate) fn reference() -> &'static dyn Backend {
    &Cpu
}

/// The engine of [`reference()`].
pub(crate) fn reference_engine() -> &'static dyn Engine {
    &CpuEngine
}

/// Runs single ops as [`reference_engine`] does.
pub(crate) fn reference_ops() -> &'static dyn Evaluate {
    &Eager
}

/// Milwright's own engine: any machine, no GPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        CpuEngine.name()
    }

    fn availability(&self) -> Availability {
        OnEngine(&CpuEngine).availability()
    }

    fn load(&self, model: &Arc<Model>, options: &LoadOptions) -> Result<Arc<dyn LoadedModel>> {
        OnEngine(&CpuEngine).load(model, options)
    }

    fn engine(&self) -> Option<&'static dyn Engine> {
        Some(&CpuEngine)
    }

    fn is_cached(&self, model: &Model, options: &LoadOptions) -> bool {
        OnEngine(&CpuEngine).is_cached(model, options)
    }
}

/// A backend and the hardware that it may use. A [`Target`] is a list of candidates, tried in turn until one loads the
/// model.
#[derive(Clone)]
pub struct Candidate {
    /// The backend.
    pub backend: Arc<dyn Backend>,
    /// The hardware that Core ML may use.
    pub compute_units: ComputeUnits,
}

impl Candidate {
    /// A backend that may use all the hardware that it supports.
    pub fn new(backend: impl Backend + 'static) -> Candidate {
        Candidate { backend: Arc::new(backend), compute_units: ComputeUnits::All }
    }

    /// Every backend of [the list](backends), those of [`Target::Auto`] first. Core ML is there once for each kind of
    /// hardware. The list includes backends that this machine lacks.
    pub fn all() -> Vec<Candidate> {
        let mut all = Target::Auto.chain();
        for backend in backends() {
            if !all.iter().any(|known| known.backend.name() == backend.name()) {
                all.push(Candidate { backend: backend.into(), compute_units: ComputeUnits::All });
            }
        }
        all
    }

    /// The name in results and metrics: the backend's name, followed by the hardware if that is restricted: `cpu`,
    /// `coreml/gpu`.
    pub fn name(&self) -> String {
        let units = match self.compute_units {
            ComputeUnits::All => return self.backend.name().to_owned(),
            ComputeUnits::CpuOnly => "cpu",
            ComputeUnits::CpuAndGpu => "gpu",
            ComputeUnits::CpuAndNeuralEngine => "ane",
        };
        format!("{}/{units}", self.backend.name())
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl Target {
    /// The candidates for this target, in the order in which they are tried: Core ML with the requested hardware, Core
    /// ML with less, then Milwright's own engine. The list includes candidates that this machine lacks: their
    /// [`availability`](Backend::availability) says why.
    pub fn chain(self) -> Vec<Candidate> {
        let units: &[ComputeUnits] = match self {
            Target::Auto | Target::Ane => {
                &[ComputeUnits::CpuAndNeuralEngine, ComputeUnits::CpuAndGpu, ComputeUnits::CpuOnly]
            }
            Target::Gpu => &[ComputeUnits::CpuAndGpu, ComputeUnits::CpuOnly],
            Target::Cpu => &[],
        };
        let backend: Arc<dyn Backend> = Arc::new(CoreMl);
        let core_ml = |&compute_units| Candidate { backend: Arc::clone(&backend), compute_units };
        units.iter().map(core_ml).chain([Candidate::new(Cpu)]).collect()
    }

    /// The first available backend for this target.
    ///
    /// # Errors
    /// No backend of this machine has the hardware that the target asks for. `Auto` and `Cpu` never fail.
    pub fn backend(self) -> Result<Box<dyn Backend>> {
        match self {
            Target::Cpu => Ok(Box::new(Cpu)),
            Target::Auto if CoreMl.availability().available => Ok(Box::new(CoreMl)),
            Target::Auto => Ok(Box::new(Cpu)),
            Target::Ane | Target::Gpu if CoreMl.availability().available => Ok(Box::new(CoreMl)),
            Target::Ane | Target::Gpu => {
                Err(Error::new(ErrorKind::Unavailable, CoreMl.availability().reason)
                    .with_hint("use the target `cpu` or `auto`"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_backend_is_a_candidate() {
        let all = Candidate::all();
        for backend in backends() {
            assert!(
                all.iter().any(|candidate| candidate.backend.name() == backend.name()),
                "{}",
                backend.name()
            );
        }
    }

    #[test]
    fn chains_end_with_the_own_engine() {
        let names = |target: Target| target.chain().iter().map(Candidate::name).collect::<Vec<_>>();
        assert_eq!(names(Target::Auto), ["coreml/ane", "coreml/gpu", "coreml/cpu", "cpu"]);
        assert_eq!(names(Target::Gpu), ["coreml/gpu", "coreml/cpu", "cpu"]);
        assert_eq!(names(Target::Cpu), ["cpu"]);
    }
}
