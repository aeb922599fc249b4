//! A circuit breaker: stops calling a backend that keeps failing, for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::clock::after;
use super::predict::is_fault;
use super::sync::{Mutex, MutexGuard, lock};
use super::telemetry;
use super::{BoxFuture, Call, Clock, Predict, Reply};
use crate::telemetry::Labels;
use crate::{Error, ErrorKind, Result};

/// When a [`Breaker`] opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerOptions {
    /// The number of failures in a row, without a success between them, that opens it.
    pub failures: u32,
    /// How long it stays open before one call probes the backend.
    pub cooldown: Duration,
    /// The shortest timeout that counts as a failure. If a deadline passes sooner, the caller was impatient, and the
    /// backend is not to blame.
    pub patience: Duration,
}

impl Default for BreakerOptions {
    fn default() -> BreakerOptions {
        let (cooldown, patience) = (Duration::from_secs(10), Duration::from_secs(1));
        BreakerOptions { failures: 5, cooldown, patience }
    }
}

/// The state of a [`Breaker`]: which calls it lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// All calls.
    Closed,
    /// One call, as a probe. Its result closes or opens the breaker.
    HalfOpen,
    /// None: they fail at once, with an error of the kind [`Unavailable`](ErrorKind::Unavailable).
    Open,
}

impl BreakerState {
    /// The value of its metric.
    fn gauge(self) -> f64 {
        match self {
            BreakerState::Closed => 0.0,
            BreakerState::HalfOpen => 1.0,
            BreakerState::Open => 2.0,
        }
    }
}

/// A circuit breaker in front of a backend. It opens after repeated failures, and later lets one call probe the
/// backend.
pub struct Breaker<S> {
    inner: S,
    circuit: Arc<Circuit>,
    clock: Arc<dyn Clock>,
    labels: Labels,
}

impl<S: Predict> Breaker<S> {
    /// Puts a breaker in front of `inner`.
    pub fn new(inner: S, options: BreakerOptions, clock: Arc<dyn Clock>, labels: Labels) -> Self {
        telemetry::breaker(&labels, BreakerState::Closed.gauge());
        Breaker { inner, circuit: Arc::new(Circuit::new(options)), clock, labels }
    }

    /// The current state.
    pub fn state(&self) -> BreakerState {
        self.circuit.state(self.clock.now())
    }

    fn report(&self, change: Option<BreakerState>, why: &dyn std::fmt::Display) {
        let Some(state) = change else { return };
        telemetry::breaker(&self.labels, state.gauge());
        let Labels { model, backend } = &self.labels;
        match state {
            BreakerState::Open => tracing::warn!(%model, %backend, %why, "breaker opened"),
            _ => tracing::info!(%model, %backend, %why, ?state, "breaker changed"),
        }
    }
}

impl<S: Predict> Predict for Breaker<S> {
    fn predict(&self, call: Call) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let start = self.clock.now();
            let admitted = Arc::clone(&self.circuit).admit(start).map_err(|wait| {
                Error::new(ErrorKind::Unavailable, format!("it failed too often: left alone for {wait:.1?}"))
            })?;
            if admitted.is_probe() {
                self.report(Some(BreakerState::HalfOpen), &"one call tries again");
            }
            let reply = self.inner.predict(call).await;
            let now = self.clock.now();
            let in_a_hurry = |e: &Error| {
                e.kind() == ErrorKind::DeadlineExceeded && now - start < self.circuit.options.patience
            };
            match &reply {
                Ok(_) => self.report(admitted.succeeded(), &"a call succeeded"),
                Err(e) if is_fault(e.kind()) && !in_a_hurry(e) => self.report(admitted.failed(now), e),
                Err(_) => {}
            }
            reply
        })
    }
}

/// The state machine of a breaker, independent of the backend that it protects.
pub(crate) struct Circuit {
    options: BreakerOptions,
    inner: Mutex<Inner>,
}

struct Inner {
    phase: Phase,
    /// The number of phase changes so far. The result of a call that was admitted in an earlier generation is ignored.
    generation: u64,
}

#[derive(Clone, Copy)]
enum Phase {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen { probing: bool },
}

impl Circuit {
    pub(crate) fn new(options: BreakerOptions) -> Circuit {
        let phase = Phase::Closed { failures: 0 };
        Circuit { options, inner: Mutex::new(Inner { phase, generation: 0 }) }
    }

    /// Admits a call, or returns how long the breaker stays open; zero while a probe is in flight.
    pub(crate) fn admit(self: Arc<Self>, now: Instant) -> Result<Admitted, Duration> {
        let mut inner = self.lock();
        match inner.phase {
            Phase::Closed { .. } => {}
            Phase::Open { until } if now < until => return Err(until - now),
            Phase::HalfOpen { probing: true } => return Err(Duration::ZERO),
            Phase::Open { .. } | Phase::HalfOpen { probing: false } => {
                inner.change(Phase::HalfOpen { probing: true });
            }
        }
        let generation = inner.generation;
        drop(inner);
        Ok(Admitted { circuit: self, generation })
    }

    pub(crate) fn state(&self, now: Instant) -> BreakerState {
        match self.lock().phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { until } if now < until => BreakerState::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

impl Inner {
    fn change(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation += 1;
    }
}

/// An admitted call. Dropping it without a result says nothing about the backend; if it was the probe, the next call
/// probes.
pub(crate) struct Admitted {
    circuit: Arc<Circuit>,
    generation: u64,
}

impl Admitted {
    fn is_probe(&self) -> bool {
        let inner = self.circuit.lock();
        inner.generation == self.generation && matches!(inner.phase, Phase::HalfOpen { .. })
    }

    /// Records a success. Returns the new state if it changed.
    pub(crate) fn succeeded(self) -> Option<BreakerState> {
        let mut inner = self.circuit.lock();
        if inner.generation != self.generation {
            return None;
        }
        match &mut inner.phase {
            Phase::Closed { failures } => {
                *failures = 0;
                None
            }
            _ => {
                inner.change(Phase::Closed { failures: 0 });
                Some(BreakerState::Closed)
            }
        }
    }

    /// Records a failure of the backend. Returns the new state if it changed.
    pub(crate) fn failed(self, now: Instant) -> Option<BreakerState> {
        let mut inner = self.circuit.lock();
        if inner.generation != self.generation {
            return None;
        }
        if let Phase::Closed { failures } = &mut inner.phase {
            *failures += 1;
            if *failures < self.circuit.options.failures {
                return None;
            }
        }
        inner.change(Phase::Open { until: after(now, self.circuit.options.cooldown) });
        Some(BreakerState::Open)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut inner = self.circuit.lock();
        if inner.generation == self.generation
            && let Phase::HalfOpen { probing } = &mut inner.phase
        {
            *probing = false;
        }
    }
}
