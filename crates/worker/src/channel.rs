//! Frames over a socket, with their blobs in shared memory.
//!
//! | bytes of a frame | what |
//! |---|---|
//! | 0..4 | [`MAGIC`] |
//! | 4..8 | the number of the request; its answer has the same |
//! | 8..12 | length of the message |
//! | 12..16 | number of blobs |
//! | … | the length of each blob, 8 bytes; the blobs lie one after the other in shared memory, each aligned |
//! | … | the message |
//!
//! All numbers are little-endian.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::limits::{MAX_BLOBS, MAX_MESSAGE};
use crate::memory::{Memory, layout};
use crate::{Error, Patience};

const MAGIC: [u8; 4] = *b"mww1";
const HEADER: usize = 16;
/// How often [`Patience::stop`] is polled.
const SLICE: Duration = Duration::from_millis(10);
/// A message is read in parts of this size, so that memory is allocated for bytes that have arrived, not for bytes that
/// were announced.
const PART: usize = 64 << 10;

/// One end of the connection. The stream is non-blocking; [`wait`] does the waiting.
pub(crate) struct Channel {
    pub stream: UnixStream,
    pub memory: Memory,
}

/// A received frame.
pub(crate) struct Frame {
    pub number: u32,
    pub message: Vec<u8>,
    /// Offset and length of each blob, as the other side claims. They are checked when the blob is read.
    pub blobs: Vec<(u64, u64)>,
}

/// Why a frame could not be sent or received.
pub(crate) enum Trouble {
    /// The other side has closed the socket.
    Closed,
    Error(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Error(error)
    }
}

impl Channel {
    /// Sends one frame. After [`Error::TooLarge`] or [`Error::Memory`], nothing was sent.
    pub fn send(
        &mut self,
        number: u32,
        message: &[u8],
        blobs: &[&[u8]],
        patience: Patience<'_>,
    ) -> Result<(), Trouble> {
        if message.len() > MAX_MESSAGE || blobs.len() > MAX_BLOBS {
            let what = format!("a message of {} bytes with {} blobs", message.len(), blobs.len());
            return Err(Error::TooLarge(what).into());
        }
        let Some((places, end)) = layout(blobs.iter().map(|b| b.len() as u64)) else {
            let total: u128 = blobs.iter().map(|b| b.len() as u128).sum();
            return Err(Error::TooLarge(format!("a request with {total} bytes")).into());
        };
        self.memory.reserve(end).map_err(Error::Memory)?;
        let mut frame = Vec::with_capacity(HEADER + 8 * blobs.len() + message.len());
        frame.extend_from_slice(&MAGIC);
        for n in [number, message.len() as u32, blobs.len() as u32] {
            frame.extend_from_slice(&n.to_le_bytes());
        }
        for (blob, (at, len)) in blobs.iter().zip(places) {
            self.memory.write(at, blob);
            frame.extend_from_slice(&len.to_le_bytes());
        }
        frame.extend_from_slice(message);
        write_all(&mut self.stream, &frame, patience)
    }

    /// Receives one frame.
    pub fn receive(&mut self, patience: Patience<'_>) -> Result<Frame, Trouble> {
        let mut header = [0; HEADER];
        read_exact(&mut self.stream, &mut header, patience)?;
        if header[..4] != MAGIC {
            return Err(garbage("it does not begin like one"));
        }
        let [number, message, blobs] =
            [4, 8, 12].map(|at| u32::from_le_bytes(std::array::from_fn(|i| header[at + i])));
        let (message, blobs) = (message as usize, blobs as usize);
        if message > MAX_MESSAGE || blobs > MAX_BLOBS {
            return Err(garbage(format!("it claims {message} bytes and {blobs} blobs")));
        }
        let lens = read(&mut self.stream, 8 * blobs, patience)?;
        let lens = lens.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b));
        let (blobs, _) = layout(lens).ok_or_else(|| garbage("its blobs are larger than memory"))?;
        let message = read(&mut self.stream, message, patience)?;
        Ok(Frame { number, message, blobs })
    }

    /// Copies a blob of a received frame out of shared memory into a vector, whose memory is reused.
    pub fn blob(&mut self, (at, len): (u64, u64), buffer: Vec<u8>) -> Result<Vec<u8>, Error> {
        match self.memory.read(at, len, buffer) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(Error::Garbage(format!("its {len} bytes at {at} are not in shared memory"))),
            Err(error) => Err(Error::Memory(error)),
        }
    }
}

fn garbage(what: impl Into<String>) -> Trouble {
    Error::Garbage(what.into()).into()
}

fn read(stream: &mut UnixStream, len: usize, patience: Patience<'_>) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let start = bytes.len();
        bytes.resize(len.min(start + PART), 0);
        read_exact(stream, &mut bytes[start..], patience)?;
    }
    Ok(bytes)
}

pub(crate) fn read_exact(
    stream: &mut UnixStream,
    mut bytes: &mut [u8],
    patience: Patience<'_>,
) -> Result<(), Trouble> {
    while !bytes.is_empty() {
        match stream.read(bytes) {
            Ok(0) => return Err(Trouble::Closed),
            Ok(n) => bytes = &mut bytes[n..],
            Err(error) => again(stream, error, PollFlags::IN, patience)?,
        }
    }
    Ok(())
}

pub(crate) fn write_all(
    stream: &mut UnixStream,
    mut bytes: &[u8],
    patience: Patience<'_>,
) -> Result<(), Trouble> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) => again(stream, error, PollFlags::OUT, patience)?,
        }
    }
    Ok(())
}

/// Decides whether to retry after an error; waits until the stream is ready if it would block.
fn again(
    stream: &UnixStream,
    error: io::Error,
    flags: PollFlags,
    patience: Patience<'_>,
) -> Result<(), Trouble> {
    match error.kind() {
        io::ErrorKind::WouldBlock => wait(stream, flags, patience),
        io::ErrorKind::Interrupted => Ok(()),
        _ => Err(Trouble::Closed),
    }
}

/// Waits until the stream is ready or closed by the other side.
pub(crate) fn wait(stream: &UnixStream, flags: PollFlags, patience: Patience<'_>) -> Result<(), Trouble> {
    loop {
        if patience.stop.is_some_and(|stop| stop()) {
            return Err(Error::Stopped.into());
        }
        let left = patience.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Error::Deadline.into());
        }
        let slice = patience.stop.map(|_| SLICE);
        let timeout = left.into_iter().chain(slice).min();
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        match poll(&mut [PollFd::new(stream, flags)], timeout.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(_) => return Err(Trouble::Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Channel, Channel) {
        let (a, b) = UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        let memory = Memory::new().unwrap();
        let shared = Memory::from_fd(memory.fd().try_clone_to_owned().unwrap());
        (Channel { stream: a, memory }, Channel { stream: b, memory: shared })
    }

    #[test]
    fn frames_arrive() {
        let (mut a, mut b) = pair();
        let large = vec![7; 300_000];
        let lists: [&[&[u8]]; 3] = [&[], &[b"x"], &[b"", &large, b"abc"]];
        for blobs in lists {
            a.send(3, b"hello", blobs, Patience::default()).ok().unwrap();
            let frame = b.receive(Patience::default()).ok().unwrap();
            assert_eq!((frame.number, &frame.message[..]), (3, &b"hello"[..]));
            let received: Vec<Vec<u8>> =
                frame.blobs.iter().map(|&place| b.blob(place, Vec::new()).unwrap()).collect();
            assert_eq!(received, blobs);
        }
        drop(a);
        assert!(matches!(b.receive(Patience::default()), Err(Trouble::Closed)));
    }

    #[test]
    fn the_deadline_ends_the_wait() {
        let (mut a, _b) = pair();
        let deadline = Some(Instant::now());
        let trouble = a.receive(Patience { deadline, stop: None }).err().unwrap();
        assert!(matches!(trouble, Trouble::Error(Error::Deadline)));
        let trouble = a.receive(Patience { deadline: None, stop: Some(&|| true) }).err().unwrap();
        assert!(matches!(trouble, Trouble::Error(Error::Stopped)));
        // The other side does not read, so the rest of a message that is larger than the socket's buffer has to wait.
        let message = vec![0; MAX_MESSAGE];
        let trouble = a.send(0, &message, &[], Patience { deadline, stop: None }).err().unwrap();
        assert!(matches!(trouble, Trouble::Error(Error::Deadline)));
    }

    #[test]
    fn too_much_is_not_sent() {
        let (mut a, _b) = pair();
        let message = vec![0; MAX_MESSAGE + 1];
        let trouble = a.send(0, &message, &[], Patience::default()).err().unwrap();
        assert!(matches!(trouble, Trouble::Error(Error::TooLarge(_))));
    }

    /// Any bytes are a valid frame, invalid, or too few.
    #[test]
    fn any_bytes_are_understood_or_refused() {
        let mut frame = MAGIC.to_vec();
        for n in [9u32, 5, 2] {
            frame.extend_from_slice(&n.to_le_bytes());
        }
        for len in [10u64, 20] {
            frame.extend_from_slice(&len.to_le_bytes());
        }
        frame.extend_from_slice(b"hello");
        let mut refused = 0;
        for at in 0..frame.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let (mut a, mut b) = pair();
                let mut bytes = frame.clone();
                bytes[at] = value;
                a.stream.write_all(&bytes).unwrap();
                drop(a);
                match b.receive(Patience::default()) {
                    Ok(frame) => {
                        assert!(frame.message.len() <= 5);
                        // Nothing was written to the shared memory, so every blob that is not empty is refused.
                        assert!(
                            frame
                                .blobs
                                .iter()
                                .all(|&(at, len)| len == 0 || b.blob((at, len), Vec::new()).is_err())
                        );
                    }
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(refused > 50, "{refused}");
    }
}
