//! Where the time of a prediction goes.

use std::time::Duration;

use serde::Serialize;

/// The times of the steps of a model, over several runs: see [`Session::profile`](crate::Session::profile).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Profile {
    /// How often the model ran.
    pub runs: usize,
    /// The median time of a whole run, in nanoseconds, what lies between the steps included.
    pub run_ns: u64,
    /// The steps, in the order in which they run.
    pub steps: Vec<ProfiledStep>,
}

/// One step: an op, with the element-wise ops that are fused into it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ProfiledStep {
    /// The name of its (last) op, which converters take from the layer of the source.
    pub name: String,
    /// The ops, joined by `+`.
    pub ops: String,
    /// The kernel that was chosen, if there are several.
    pub kernel: Option<String>,
    /// The median time, in nanoseconds.
    pub median_ns: u64,
    /// The shortest time, in nanoseconds.
    pub min_ns: u64,
    /// Operations on floats, at least; 0 if they are not known.
    pub flops: u64,
    /// Bytes that it reads and writes, at least; 0 if they are not known.
    pub bytes: u64,
}

impl Profile {
    /// Makes a profile of the times of runs, each with the times of its steps.
    pub(crate) fn new(
        steps: Vec<(String, String)>,
        costs: Vec<milwright_mil::engine::StepCost>,
        runs: &[(Duration, Vec<Duration>)],
    ) -> Profile {
        let median = |mut times: Vec<u64>| {
            times.sort_unstable();
            times.get(times.len() / 2).copied().unwrap_or(0)
        };
        let ns = |d: &Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        let step = |(i, (ops, name)): (usize, (String, String))| {
            let times: Vec<u64> = runs.iter().filter_map(|(_, times)| times.get(i)).map(ns).collect();
            let (ops, kernel) = match ops.strip_suffix(']').and_then(|ops| ops.split_once(" [")) {
                Some((ops, kernel)) => (ops.to_owned(), Some(kernel.to_owned())),
                None => (ops, None),
            };
            let cost = costs.get(i).copied().unwrap_or_default();
            let min_ns = times.iter().copied().min().unwrap_or(0);
            ProfiledStep {
                name,
                ops,
                kernel,
                median_ns: median(times),
                min_ns,
                flops: cost.flops,
                bytes: cost.bytes,
            }
        };
        Profile {
            runs: runs.len(),
            run_ns: median(runs.iter().map(|(whole, _)| ns(whole)).collect()),
            steps: steps.into_iter().enumerate().map(step).collect(),
        }
    }
}
