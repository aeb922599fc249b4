//! The greetings: each side tells its identity, and the parent sends two descriptors, of the shared memory and of a
//! second socket, over which nothing is ever sent. The parent holds the other end of that socket; when it is closed,
//! the parent has ended.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::channel::{Channel, Trouble, read_exact, write_all};
use crate::limits::MAX_IDENTITY;
use crate::memory::Memory;
use crate::{Error, Patience};

const MAGIC: [u8; 8] = *b"MWworker";
/// A greeting: [`MAGIC`], the length of the identity in two bytes, and the identity, padded with zeros. Its format is
/// the same in every version, so that two versions can tell each other which they are.
const GREETING: usize = 8 + 2 + MAX_IDENTITY;

/// The parent's first part: creates shared memory and sends the greeting. The parent must hold the second stream.
pub(crate) fn greet(mut stream: UnixStream, identity: &str) -> Result<(Channel, UnixStream), Trouble> {
    let memory = Memory::new().map_err(Error::Memory)?;
    let (ours, theirs) = UnixStream::pair().map_err(Error::Memory)?;
    let greeting = greeting(identity);
    let descriptors = [memory.fd(), theirs.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let sent = sendmsg(&stream, &[IoSlice::new(&greeting)], &mut control, SendFlags::empty())
        .map_err(|_| Trouble::Closed)?;
    write_all(&mut stream, &greeting[sent..], Patience::default())?;
    Ok((Channel { stream, memory }, ours))
}

/// The parent's second part: receives the worker's greeting and compares identities.
pub(crate) fn check(channel: &mut Channel, identity: &str, patience: Patience<'_>) -> Result<(), Trouble> {
    let mut answer = [0; GREETING];
    read_exact(&mut channel.stream, &mut answer, patience)?;
    Ok(compare(identity, &answer)?)
}

/// The child's part: takes the socket from standard input, answers, and compares. The second stream closes when the
/// parent ends.
pub(crate) fn answer(identity: &str) -> Result<(Channel, UnixStream), Error> {
    let mut stream = take_socket().map_err(|_| Error::NotAWorker)?;
    let gone = |trouble| match trouble {
        Trouble::Closed => Error::NotAWorker,
        Trouble::Error(error) => error,
    };
    let mut theirs = [0; GREETING];
    let (received, descriptors) = receive_descriptors(&stream, &mut theirs).map_err(|_| Error::NotAWorker)?;
    stream.set_nonblocking(true).map_err(|_| Error::NotAWorker)?;
    read_exact(&mut stream, &mut theirs[received..], Patience::default()).map_err(gone)?;
    write_all(&mut stream, &greeting(identity), Patience::default()).map_err(gone)?;
    compare(identity, &theirs)?;
    let [memory, parent] = descriptors
        .try_into()
        .map_err(|_| Error::Garbage("there are not two descriptors in the greeting".into()))?;
    Ok((Channel { stream, memory: Memory::from_fd(memory) }, UnixStream::from(parent)))
}

fn greeting(identity: &str) -> [u8; GREETING] {
    let identity = &identity.as_bytes()[..identity.len().min(MAX_IDENTITY)];
    let mut greeting = [0; GREETING];
    greeting[..8].copy_from_slice(&MAGIC);
    greeting[8..10].copy_from_slice(&(identity.len() as u16).to_le_bytes());
    greeting[10..10 + identity.len()].copy_from_slice(identity);
    greeting
}

fn compare(ours: &str, greeting: &[u8; GREETING]) -> Result<(), Error> {
    let len = usize::from(u16::from_le_bytes([greeting[8], greeting[9]]));
    let Some(theirs) = greeting[10..].get(..len).filter(|_| greeting[..8] == MAGIC) else {
        return Err(Error::Garbage("it does not greet as a worker does".into()));
    };
    if theirs == ours.as_bytes() {
        return Ok(());
    }
    Err(Error::Identity { ours: ours.to_owned(), theirs: String::from_utf8_lossy(theirs).into_owned() })
}

/// Takes the socket from standard input, if it is one, and puts an empty file in its place, so that nothing else reads
/// from the socket.
fn take_socket() -> io::Result<UnixStream> {
    let stdin = io::stdin();
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&stdin)?.st_mode);
    if kind != rustix::fs::FileType::Socket {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let socket = stdin.as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(UnixStream::from(socket))
}

fn receive_descriptors(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(stream, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::empty())?;
    let mut found = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = part {
            for descriptor in descriptors {
                rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)?;
                found.push(descriptor);
            }
        }
    }
    Ok((message.bytes, found))
}
