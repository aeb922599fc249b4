//! Compares the outputs of two backends on live traffic.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tokio::sync::Semaphore;

use super::sync::{Mutex, lock};
use super::telemetry;
use super::{BoxFuture, Call, Predict, Reply};
use crate::telemetry::Labels;
use crate::{Differences, OutputDifference, Prediction, Result};

/// Answers from a primary backend, and runs a share of the calls on another backend as well to compare the outputs.
/// The caller neither waits for the comparison nor sees the other outputs. One comparison runs at a time; calls with a
/// state are not compared.
pub struct Shadow<P> {
    primary: P,
    observer: Arc<Observer>,
    /// The share of calls to compare, 0 to 1.
    rate: f64,
    calls: AtomicU64,
    busy: Arc<Semaphore>,
}

/// The results of a [`Shadow`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ShadowStatus {
    /// Calls that were compared.
    pub compared: u64,
    /// Compared calls with an output outside the tolerance.
    pub mismatches: u64,
    /// Calls that the other backend failed to answer.
    pub failed: u64,
    /// Calls that were not compared because another comparison was running.
    pub missed: u64,
    /// The output with the largest difference so far.
    pub worst: Option<OutputDifference>,
}

impl<P: Predict> Shadow<P> {
    /// Compares a share `rate` (0 to 1) of the calls, evenly spaced: the answers of `primary` with those of `other`.
    /// An output whose SNR is below `snr_db` dB (see [`OutputDifference::within`]) is a mismatch. The labels name the
    /// other backend.
    pub fn new(primary: P, other: Arc<dyn Predict>, rate: f64, snr_db: f64, labels: Labels) -> Shadow<P> {
        let observer = Observer { other, snr_db, labels, status: Mutex::default() };
        let busy = Arc::new(Semaphore::new(1));
        Shadow { primary, observer: Arc::new(observer), rate, calls: AtomicU64::new(0), busy }
    }

    /// The results so far.
    pub fn status(&self) -> ShadowStatus {
        lock(&self.observer.status).clone()
    }

    fn is_due(&self) -> bool {
        let n = self.calls.fetch_add(1, Ordering::Relaxed) as f64;
        ((n + 1.0) * self.rate).floor() > (n * self.rate).floor()
    }
}

impl<P: Predict> Predict for Shadow<P> {
    fn predict(&self, call: Call) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let copy = (call.state.is_none() && self.is_due()).then(|| call.clone());
            let reply = self.primary.predict(call).await?;
            let Some(copy) = copy else { return Ok(reply) };
            match Arc::clone(&self.busy).try_acquire_owned() {
                Err(_) => lock(&self.observer.status).missed += 1,
                Ok(turn) => {
                    let (observer, reply) = (Arc::clone(&self.observer), reply.clone());
                    tokio::spawn(async move {
                        observer.compare(copy, reply).await;
                        drop(turn);
                    });
                }
            }
            Ok(reply)
        })
    }
}

struct Observer {
    other: Arc<dyn Predict>,
    snr_db: f64,
    labels: Labels,
    status: Mutex<ShadowStatus>,
}

impl Observer {
    async fn compare(&self, call: Call, reply: Reply) {
        // The caller already has its answer, so its deadline does not apply.
        let other = match self.other.predict(Call { deadline: None, ..call }).await {
            Ok(other) => other,
            Err(error) => {
                tracing::warn!(model = %self.labels.model, shadow = %self.labels.backend, %error, "shadow failed");
                lock(&self.status).failed += 1;
                return telemetry::shadow(&self.labels, "failed");
            }
        };
        let backend = reply.route.backend.clone();
        // Comparing large outputs takes a while, so it does not run on a thread of the async runtime.
        let compared = tokio::task::spawn_blocking(move || differences(&reply, &other)).await;
        // The runtime is shutting down: the result is not needed.
        let Ok(differences) = compared else { return };
        let mismatch = differences.iter().find(|d| !d.within(self.snr_db));
        if let Some(difference) = mismatch {
            tracing::warn!(model = %self.labels.model, %backend,
                shadow = %self.labels.backend, ?difference, "outputs of two backends differ");
        }
        telemetry::shadow(&self.labels, if mismatch.is_some() { "mismatch" } else { "match" });
        let mut status = lock(&self.status);
        status.compared += 1;
        status.mismatches += u64::from(mismatch.is_some());
        for difference in &differences {
            if status.worst.as_ref().is_none_or(|worst| distance(worst) < distance(difference)) {
                status.worst = Some(difference.clone());
            }
        }
    }
}

/// Compares all requests of a call, output by output. An output that only one of the replies has is a fault.
fn differences(a: &Reply, b: &Reply) -> Vec<OutputDifference> {
    let names = |reply: &Reply| -> BTreeSet<String> {
        let outputs = reply.predictions.iter().flat_map(Prediction::outputs);
        outputs.map(|(name, _)| name.clone()).collect()
    };
    let difference = |name: &String| {
        let pairs =
            || a.predictions.iter().zip(&b.predictions).map(|(a, b)| (a.output(name), b.output(name)));
        let first = pairs().find_map(|(a, b)| a.or(b));
        // A single call cannot show whether an output depends on its inputs.
        let mut sum = Differences::new(first.map(Differences::measure_of).unwrap_or_default()).fixed();
        if a.predictions.len() != b.predictions.len() {
            sum.fault("there are results of one backend only");
        }
        for pair in pairs() {
            match pair {
                (Some(a), Some(b)) => sum.add(a, b),
                (None, None) => {}
                _ => sum.fault("one backend does not give it"),
            }
        }
        sum.finish(name)
    };
    names(a).union(&names(b)).map(difference).collect()
}

/// The sort key of differences: a greater key is a larger difference.
fn distance(difference: &OutputDifference) -> (bool, f64) {
    (difference.failure(None).is_some(), -difference.snr_db.rank())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    fn reply(predictions: &[&[(&str, f32)]]) -> Reply {
        let prediction = |outputs: &&[(&str, f32)]| {
            Prediction::new(outputs.iter().map(|&(n, x)| (n.to_owned(), Tensor::scalar(x))).collect())
        };
        let predictions = predictions.iter().map(prediction).collect();
        Reply { predictions, state: None, route: crate::manager::Route::default() }
    }

    fn same(a: &[&[(&str, f32)]], b: &[&[(&str, f32)]]) -> bool {
        differences(&reply(a), &reply(b)).iter().all(|d| d.within(40.0))
    }

    #[test]
    fn what_is_not_finite_in_one_only_differs() {
        const INF: f32 = f32::INFINITY;
        let values = [0.0, 1.0, INF, -INF, f32::NAN];
        for (i, &x) in values.iter().enumerate() {
            for (j, &y) in values.iter().enumerate() {
                assert_eq!(same(&[&[("y", x)]], &[&[("y", y)]]), i == j, "{x} {y}");
            }
        }
    }

    #[test]
    fn what_only_one_of_them_has_differs() {
        let (one, two) = (&[("y", 1.0)][..], &[("y", 1.0), ("z", 1.0)][..]);
        assert!(same(&[two], &[two]));
        assert!(!same(&[two], &[one]));
        assert!(!same(&[one], &[two]));
        assert!(!same(&[one, one], &[one]));
        assert!(!same(&[one], &[one, one]));
    }
}
