//! The messages that pass through the policies: a call goes down, a reply or an error comes back.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{ErrorKind, InferenceRequest, Prediction, Result, State};

/// Answers calls: a session on its thread, or a policy around another `Predict`.
///
/// Dropping the future cancels the call, wherever it is.
pub trait Predict: Send + Sync + 'static {
    /// Answers a call, once.
    fn predict(&self, call: Call) -> BoxFuture<'_, Result<Reply>>;
}

impl<P: Predict + ?Sized> Predict for Arc<P> {
    fn predict(&self, call: Call) -> BoxFuture<'_, Result<Reply>> {
        (**self).predict(call)
    }
}

/// A boxed future, which trait methods can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A request to a model.
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
    /// The requests: one prediction, or several that succeed or fail together.
    pub requests: Arc<[InferenceRequest]>,
    /// The state to read and write; the [`Reply`] returns it. Without one, a stateful model starts each prediction
    /// with zeros: callers never share a state implicitly. After an error, continue with an earlier copy.
    pub state: Option<State>,
    /// The deadline for the answer. The model's own limit applies if it is earlier.
    pub deadline: Option<Instant>,
    /// The priority in the queue.
    pub priority: Priority,
    /// What to do if the queue is full.
    pub when_full: WhenFull,
}

impl From<InferenceRequest> for Call {
    fn from(request: InferenceRequest) -> Call {
        let (priority, when_full) = (Priority::default(), WhenFull::default());
        Call { requests: Arc::new([request]), state: None, deadline: None, priority, when_full }
    }
}

/// The priority of a queued call. Calls of equal priority run in the order of arrival. A call of a higher priority
/// always runs before one of a lower priority, however long that has waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Runs when no other call waits.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Runs before all others.
    High,
}

/// What a call does if the queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WhenFull {
    /// Fail at once, with an error of the kind [`Overloaded`](ErrorKind::Overloaded).
    #[default]
    Refuse,
    /// Wait all the same, beyond the limit of the queue, until the deadline. This slows the caller down
    /// (back-pressure).
    Wait,
}

/// The answer to a [`Call`].
#[derive(Clone, Debug)]
pub struct Reply {
    /// One prediction for each request, in order.
    pub predictions: Vec<Prediction>,
    /// The call's states, as the model left them.
    pub state: Option<State>,
    /// Which backend computed it, and why that one.
    pub route: Route,
}

impl Reply {
    /// The prediction for the first request. Most calls have only one.
    pub fn prediction(&self) -> &Prediction {
        &self.predictions[0]
    }
}

/// Which backend answered a call, and why that one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    /// The [name](crate::Candidate::name) of the candidate that answered.
    pub backend: String,
    /// The candidates before it in the chain, and why each of them did not answer.
    pub skipped: Vec<Skipped>,
    /// How long the call waited in the queue.
    pub queued: Duration,
    /// How long the model ran.
    pub ran: Duration,
}

/// A candidate that did not answer a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Its name.
    pub backend: String,
    /// The error, or why the candidate is not available here.
    pub reason: String,
}

/// Whether an error counts against the backend, and not against the caller: its inputs, its cancellations or its load.
pub(crate) fn is_fault(kind: ErrorKind) -> bool {
    use ErrorKind as Kind;
    !matches!(kind, Kind::InvalidInput | Kind::Cancelled | Kind::Overloaded | Kind::Tolerance)
}
