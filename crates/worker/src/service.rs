//! The child's side.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::thread;

use rustix::process::{Signal, getpid, kill_process};

use crate::channel::{Channel, Trouble};
use crate::start;
use crate::{Error, Patience};

/// The child's side of a worker: the connection to its parent.
pub struct Service {
    channel: Channel,
    number: u32,
}

/// A request from the parent.
pub struct Request<'a> {
    /// The message.
    pub message: Vec<u8>,
    places: Vec<(u64, u64)>,
    channel: &'a mut Channel,
}

impl Service {
    /// Exchanges greetings with the parent. From here on, this process ends when the parent does, and its standard
    /// input is empty.
    ///
    /// `identity` must equal the one that the parent expects: a name and a version, at most
    /// [`MAX_IDENTITY`](crate::limits::MAX_IDENTITY) bytes.
    ///
    /// # Errors
    /// [`Error::NotAWorker`] if standard input is not a parent's socket; [`Error::Identity`] if the parent is of
    /// another version.
    pub fn connect(identity: &str) -> Result<Service, Error> {
        let (channel, parent) = start::answer(identity)?;
        end_with(parent)?;
        Ok(Service { channel, number: 0 })
    }

    /// Waits for the next request. Returns `None` when the parent has closed the connection.
    ///
    /// # Errors
    /// The parent sent an invalid frame.
    pub fn receive(&mut self) -> Result<Option<Request<'_>>, Error> {
        match self.channel.receive(Patience::default()) {
            Ok(frame) => {
                self.number = frame.number;
                Ok(Some(Request { message: frame.message, places: frame.blobs, channel: &mut self.channel }))
            }
            Err(Trouble::Closed) => Ok(None),
            Err(Trouble::Error(error)) => Err(error),
        }
    }

    /// Answers the last request. The blobs are copied to shared memory.
    ///
    /// # Errors
    /// The answer exceeds the [limits](crate::limits), or there is no memory for it; nothing was sent then. It is no
    /// error if the parent is gone: this process is about to end.
    pub fn reply(&mut self, message: &[u8], blobs: &[&[u8]]) -> Result<(), Error> {
        match self.channel.send(self.number, message, blobs, Patience::default()) {
            Ok(()) | Err(Trouble::Closed) => Ok(()),
            Err(Trouble::Error(error)) => Err(error),
        }
    }
}

impl Request<'_> {
    /// The lengths of the blobs.
    pub fn blob_lens(&self) -> Vec<u64> {
        self.places.iter().map(|&(_, len)| len).collect()
    }

    /// Copies a blob out of shared memory into a vector, whose memory is reused.
    ///
    /// # Errors
    /// There is no blob of this number, or it is not all in shared memory.
    pub fn blob(&mut self, n: usize, buffer: Vec<u8>) -> Result<Vec<u8>, Error> {
        let place = self.places.get(n).ok_or_else(|| Error::Garbage(format!("there is no blob {n}")))?;
        self.channel.blob(*place, buffer)
    }
}

/// Kills this process when the parent closes its end of the second socket: it has ended, or needs the worker no more. A
/// separate thread watches the socket, so that it works even if the others hang.
fn end_with(mut parent: UnixStream) -> Result<(), Error> {
    let watch = move || {
        while matches!(parent.read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::Interrupted) {}
        // Not an orderly exit: exit handlers could wait for a thread that hangs.
        let _ = kill_process(getpid(), Signal::KILL);
    };
    thread::Builder::new().name("parent watch".into()).spawn(watch).map_err(Error::Memory)?;
    Ok(())
}
