//! The parent's side.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::process::Signal;

use crate::channel::{Channel, Trouble, wait};
use crate::start;
use crate::{Error, Launch, Patience};

/// A running worker process. Dropping this ends it.
pub struct Worker {
    process: Process,
    channel: Channel,
    /// The worker ends when this is closed.
    _alive: UnixStream,
    /// The identity that the worker has to answer with; `None` when it has.
    identity: Option<String>,
    number: u32,
}

/// A worker's answer.
pub struct Reply<'a> {
    /// The message.
    pub message: Vec<u8>,
    places: Vec<(u64, u64)>,
    worker: &'a mut Worker,
}

impl Worker {
    /// Starts a program and sends it the greeting. Its identity is checked when it first answers. The standard output
    /// and standard error of the worker go to this process's standard error.
    ///
    /// # Errors
    /// The program cannot be started, or shared memory cannot be created.
    pub fn start(launch: &Launch, identity: &str) -> Result<Worker, Error> {
        let failed = |source| Error::Start { program: launch.program.clone(), source };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let mut command = Command::new(&launch.program);
        command
            .args(&launch.args)
            .envs(launch.environment.iter().map(|(k, v)| (k, v)))
            .stdin(OwnedFd::from(theirs))
            // Standard output is for this process's own results.
            .stdout(io::stderr())
            .process_group(0);
        let child = command.spawn().map_err(failed)?;
        // The command holds the other end of the socket. It must be closed here, or the worker's end would go
        // unnoticed.
        drop(command);
        let mut process = Process { child, ended: None };
        tracing::debug!("worker process {} started", process.child.id());
        let (channel, alive) = start::greet(ours, identity).map_err(|trouble| process.end(trouble))?;
        Ok(Worker { process, channel, _alive: alive, identity: Some(identity.to_owned()), number: 0 })
    }

    /// Sends a request. The blobs are copied to shared memory. Requests are answered one by one:
    /// [`receive`](Worker::receive) the answer before sending the next.
    ///
    /// # Errors
    /// After any error but [`Error::TooLarge`] and [`Error::Memory`] the worker is gone, and every later call fails
    /// with [`Error::Died`].
    pub fn send(&mut self, message: &[u8], blobs: &[&[u8]], patience: Patience<'_>) -> Result<(), Error> {
        self.process.check()?;
        self.number = self.number.wrapping_add(1);
        match self.channel.send(self.number, message, blobs, patience) {
            Ok(()) => Ok(()),
            Err(Trouble::Error(error @ (Error::TooLarge(_) | Error::Memory(_)))) => Err(error),
            Err(trouble) => Err(self.process.end(trouble)),
        }
    }

    /// Waits for an answer to receive, no longer than `patience` allows. After a timeout the worker lives on.
    ///
    /// # Errors
    /// [`Error::Deadline`] and [`Error::Stopped`] when `patience` ends the wait. After any other error the worker is
    /// gone.
    pub fn wait(&mut self, patience: Patience<'_>) -> Result<(), Error> {
        self.process.check()?;
        let greeting = self.identity.is_some();
        match wait(&self.channel.stream, PollFlags::IN, patience) {
            Ok(()) if greeting => {
                self.greeted(patience)?;
                self.wait(patience)
            }
            Ok(()) => Ok(()),
            Err(Trouble::Error(error @ (Error::Deadline | Error::Stopped))) => Err(error),
            Err(trouble) => Err(self.process.end(trouble)),
        }
    }

    /// Receives the answer to the last request.
    ///
    /// # Errors
    /// After any error the worker is gone, and every later call fails with [`Error::Died`]. [`Error::Identity`] if the
    /// worker has another identity than expected.
    pub fn receive(&mut self, patience: Patience<'_>) -> Result<Reply<'_>, Error> {
        self.process.check()?;
        self.greeted(patience)?;
        let frame = match self.channel.receive(patience) {
            Ok(frame) if frame.number == self.number => frame,
            Ok(frame) => {
                let what = format!("the answer to request {}, not {}", frame.number, self.number);
                return Err(self.process.end(Error::Garbage(what).into()));
            }
            Err(trouble) => return Err(self.process.end(trouble)),
        };
        Ok(Reply { message: frame.message, places: frame.blobs, worker: self })
    }

    /// Sends a request and waits for its answer: [`send`](Worker::send), then [`receive`](Worker::receive).
    ///
    /// # Errors
    /// Those of the two.
    pub fn call(
        &mut self,
        message: &[u8],
        blobs: &[&[u8]],
        patience: Patience<'_>,
    ) -> Result<Reply<'_>, Error> {
        self.send(message, blobs, patience)?;
        self.receive(patience)
    }

    fn greeted(&mut self, patience: Patience<'_>) -> Result<(), Error> {
        if let Some(identity) = self.identity.take() {
            let checked = start::check(&mut self.channel, &identity, patience);
            checked.map_err(|trouble| self.process.end(trouble))?;
        }
        Ok(())
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// Whether it was alive after the last call.
    pub fn is_alive(&self) -> bool {
        self.process.ended.is_none()
    }

    /// Kills the worker.
    pub fn end(&mut self) {
        self.process.kill("it was asked for");
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("id", &self.id()).field("ended", &self.process.ended).finish()
    }
}

impl Reply<'_> {
    /// The lengths of the blobs, as the worker claims.
    pub fn blob_lens(&self) -> Vec<u64> {
        self.places.iter().map(|&(_, len)| len).collect()
    }

    /// Copies a blob out of shared memory into a vector, whose memory is reused. Compare its claimed length with the
    /// expected one first.
    ///
    /// # Errors
    /// There is no blob of this number, or it is not all in shared memory; the worker is gone then. Or there is no
    /// memory for the copy.
    pub fn blob(&mut self, n: usize, buffer: Vec<u8>) -> Result<Vec<u8>, Error> {
        let Some(&place) = self.places.get(n) else {
            return Err(self.refuse(format!("there is no blob {n}")));
        };
        self.worker.channel.blob(place, buffer).map_err(|error| match error {
            Error::Garbage(what) => self.refuse(what),
            error => error,
        })
    }

    /// Kills the worker because its answer is wrong. Returns the error.
    pub fn refuse(&mut self, what: impl Into<String>) -> Error {
        self.worker.process.end(Error::Garbage(what.into()).into())
    }
}

/// The child process. Dropping this kills it and waits for it.
struct Process {
    child: Child,
    /// How the process ended, if it has.
    ended: Option<String>,
}

/// How long a process that has closed its socket may take to end by itself. Its exit status gives a reason only then.
const LAST_BREATH: Duration = Duration::from_millis(200);

impl Process {
    fn check(&self) -> Result<(), Error> {
        self.ended.as_ref().map_or(Ok(()), |how| Err(Error::Died(how.clone())))
    }

    /// Makes sure that the process has ended, and returns the error that says why there is no answer.
    fn end(&mut self, trouble: Trouble) -> Error {
        match trouble {
            Trouble::Closed => {
                let start = Instant::now();
                while start.elapsed() < LAST_BREATH && matches!(self.child.try_wait(), Ok(None)) {
                    thread::sleep(Duration::from_millis(1));
                }
                Error::Died(self.kill("it closed its socket"))
            }
            Trouble::Error(error) => {
                self.kill(&error.to_string());
                error
            }
        }
    }

    /// Kills the process, if it still runs, waits for it, and returns how it ended. `reason` is why it is killed.
    fn kill(&mut self, reason: &str) -> String {
        if let Some(how) = &self.ended {
            return how.clone();
        }
        let how = match self.child.try_wait() {
            Ok(Some(status)) => describe(status),
            _ => {
                let _ = self.child.kill();
                let _ = self.child.wait();
                format!("killed, for {reason}")
            }
        };
        tracing::debug!("worker process {}: {how}", self.child.id());
        self.ended.insert(how).clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill("it is not needed any more");
    }
}

fn describe(status: ExitStatus) -> String {
    let names = [
        (Signal::KILL, "SIGKILL"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::ILL, "SIGILL"),
        (Signal::FPE, "SIGFPE"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::TERM, "SIGTERM"),
    ];
    match (status.signal(), status.code()) {
        (Some(signal), _) => match names.iter().find(|(s, _)| s.as_raw() == signal) {
            Some((_, name)) => format!("signal {signal} ({name})"),
            None => format!("signal {signal}"),
        },
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => status.to_string(),
    }
}
