//! What goes through the policies: a call down, a reply or an error up.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{ErrorKind, InferenceRequest, Prediction, Result, State};

/// Something that answers calls: a session on its thread, or a policy around something that answers calls.
///
/// Dropping the future gives the call up, wherever it is.
pub trait Predict: Send + Sync + 'static {
    /// Answers a call, once.
    fn predict(&self, call: Call) -> BoxFuture<'_, Result<Reply>>;
}

impl<P: Predict + ?Sized> Predict for Arc<P> {
    fn predict(&self, call: Call) -> BoxFuture<'_, Result<Reply>> {
        (**self).predict(call)
    }
}

/// A future that a trait can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is asked of a model.
///
/// ```
/// use std::time::{Duration, Instant};
/// use milwright::manager::{Call, Priority};
/// use milwright::{InferenceRequest, Tensor};
///
/// let request = InferenceRequest::new().input("x", Tensor::scalar(1f32));
/// let call = Call {
///     deadline: Some(Instant::now() + Duration::from_millis(50)),
///     priority: Priority::High,
///     ..Call::from(request)
/// };
/// assert_eq!(call.requests.len(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct Call {
    /// The inputs: of one prediction, or of several that are answered together or not at all.
    pub requests: Arc<[InferenceRequest]>,
    /// The states to read and write; they come back in the [`Reply`]. Without it, a stateful model starts each
    /// prediction with zeros: callers share nothing that they do not hand over. After an error, use a copy from before.
    pub state: Option<State>,
    /// When the answer must be there; the model's own limit if it is earlier.
    pub deadline: Option<Instant>,
    /// Who goes first when calls wait.
    pub priority: Priority,
    /// What to do where as many wait as may.
    pub when_full: WhenFull,
}

impl From<InferenceRequest> for Call {
    fn from(request: InferenceRequest) -> Call {
        let (priority, when_full) = (Priority::default(), WhenFull::default());
        Call { requests: Arc::new([request]), state: None, deadline: None, priority, when_full }
    }
}

/// Who goes first when calls wait. Within a priority it is first come, first served; a higher one always goes before a
/// lower one, however long that has waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// When nothing else waits.
    Low,
    /// The usual.
    #[default]
    Normal,
    /// Before the others.
    High,
}

/// What to do where as many calls wait as may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WhenFull {
    /// Fail at once, with an error of the kind [`Overloaded`](ErrorKind::Overloaded).
    #[default]
    Refuse,
    /// Wait for a place, until the deadline: the caller feels the pressure.
    Wait,
}

/// The answer to a [`Call`].
#[derive(Clone, Debug)]
pub struct Reply {
    /// One for each request, in order.
    pub predictions: Vec<Prediction>,
    /// The call's states, as the model left them.
    pub state: Option<State>,
    /// Where it was computed, and why there.
    pub route: Route,
}

impl Reply {
    /// The prediction for the first request; most calls have one.
    pub fn prediction(&self) -> &Prediction {
        &self.predictions[0]
    }
}

/// Where a call was answered, and why there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    /// The candidate that answered, by [name](crate::Candidate::name).
    pub backend: String,
    /// The ones before it in the chain, and why they did not.
    pub skipped: Vec<Skipped>,
    /// How long the call waited for its turn.
    pub queued: Duration,
    /// How long the model ran.
    pub ran: Duration,
}

/// A candidate that did not answer a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Its name.
    pub backend: String,
    /// The error, or why it cannot be used here.
    pub reason: String,
}

/// Whether an error speaks against the backend: not against the caller's inputs, patience or number.
pub(crate) fn is_fault(kind: ErrorKind) -> bool {
    use ErrorKind as Kind;
    !matches!(kind, Kind::InvalidInput | Kind::Cancelled | Kind::Overloaded | Kind::Tolerance)
}
