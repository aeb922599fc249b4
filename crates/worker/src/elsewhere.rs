//! The same items on systems without Unix sockets, where there are no workers: types without values.

use std::convert::Infallible;
use std::marker::PhantomData;

use crate::{Error, Launch, Patience};

/// A running worker process. This system has none.
#[derive(Debug)]
pub struct Worker(Infallible);

/// A worker's answer.
pub struct Reply<'a> {
    /// The message.
    pub message: Vec<u8>,
    never: PhantomData<&'a Infallible>,
}

/// The child's side of a worker: the connection to its parent.
pub struct Service(Infallible);

/// A request from the parent.
pub struct Request<'a> {
    /// The message.
    pub message: Vec<u8>,
    never: PhantomData<&'a Infallible>,
}

impl Worker {
    /// Starts a worker.
    ///
    /// # Errors
    /// Always [`Error::Unsupported`] on this system.
    pub fn start(_: &Launch, _: &str) -> Result<Worker, Error> {
        Err(Error::Unsupported)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// There is no worker.
    pub fn send(&mut self, _: &[u8], _: &[&[u8]], _: Patience<'_>) -> Result<(), Error> {
        match self.0 {}
    }

    /// Waits until there is an answer to receive.
    ///
    /// # Errors
    /// There is no worker.
    pub fn wait(&mut self, _: Patience<'_>) -> Result<(), Error> {
        match self.0 {}
    }

    /// Receives the answer to the last request.
    ///
    /// # Errors
    /// There is no worker.
    pub fn receive(&mut self, _: Patience<'_>) -> Result<Reply<'_>, Error> {
        match self.0 {}
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// There is no worker.
    pub fn call(&mut self, _: &[u8], _: &[&[u8]], _: Patience<'_>) -> Result<Reply<'_>, Error> {
        match self.0 {}
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        match self.0 {}
    }

    /// Whether it was alive after the last call.
    pub fn is_alive(&self) -> bool {
        match self.0 {}
    }

    /// Kills the worker.
    pub fn end(&mut self) {
        match self.0 {}
    }
}

impl Reply<'_> {
    /// The lengths of the blobs, as the worker claims.
    pub fn blob_lens(&self) -> Vec<u64> {
        Vec::new()
    }

    /// Copies a blob out of shared memory into a vector, whose memory is reused.
    ///
    /// # Errors
    /// There is no worker.
    pub fn blob(&mut self, _: usize, _: Vec<u8>) -> Result<Vec<u8>, Error> {
        Err(Error::Unsupported)
    }

    /// Kills the worker because its answer is wrong. Returns the error.
    pub fn refuse(&mut self, what: impl Into<String>) -> Error {
        Error::Garbage(what.into())
    }
}

impl Service {
    /// Exchanges greetings with the parent.
    ///
    /// # Errors
    /// Always [`Error::Unsupported`] on this system.
    pub fn connect(_: &str) -> Result<Service, Error> {
        Err(Error::Unsupported)
    }

    /// Waits for the next request.
    ///
    /// # Errors
    /// There is no service.
    pub fn receive(&mut self) -> Result<Option<Request<'_>>, Error> {
        match self.0 {}
    }

    /// Answers the last request.
    ///
    /// # Errors
    /// There is no service.
    pub fn reply(&mut self, _: &[u8], _: &[&[u8]]) -> Result<(), Error> {
        match self.0 {}
    }
}

impl Request<'_> {
    /// The lengths of the blobs.
    pub fn blob_lens(&self) -> Vec<u64> {
        Vec::new()
    }

    /// Copies a blob out of shared memory into a vector, whose memory is reused.
    ///
    /// # Errors
    /// There is no service.
    pub fn blob(&mut self, _: usize, _: Vec<u8>) -> Result<Vec<u8>, Error> {
        Err(Error::Unsupported)
    }
}
