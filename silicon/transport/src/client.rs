//! A connection to a partition as a client uses it, whatever carries its messages: the ring of a
//! module on the same host (`ring_client`), or the stream of a proxy (`stream`).

use crate::handshake::{
    Hello, Refusal, WELCOME_BYTES, Welcome, receive_with_descriptors, send_with_descriptors,
};
use crate::message::{RequestHeader, ResponseHeader};
use crate::ring_client::{self, RingConnection};
use crate::stream::{self, StreamConnection};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long the module may take over the handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// Pseudo-paths of partitions behind a vsock: `/dev/vsock/CID/PORT`.
pub const VSOCK_PREFIX: &str = "/dev/vsock/";

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// The socket could not be reached, or broke.
    Io(io::Error),
    /// The module said no.
    Refused(Refusal),
    /// What answered does not speak this protocol.
    Protocol(String),
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Refused(Refusal::Version) => {
                write!(
                    f,
                    "the module speaks another protocol version; use the library that came with it"
                )
            }
            Self::Refused(Refusal::Quota) => {
                write!(f, "the partition has all the connections its quota allows")
            }
            Self::Refused(Refusal::Suspended) => write!(f, "the partition is suspended"),
            Self::Refused(refusal) => write!(f, "the module refused the connection ({refusal:?})"),
            Self::Protocol(what) => write!(f, "not a Casemate module: {what}"),
        }
    }
}

impl std::error::Error for ConnectError {}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The connection has ended: the module is gone, or this process is a fork of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

/// A request before it has a slot. Lengths and sequence number in the header are filled in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// Operation, flags, session, object, mechanism, aux, capacity.
    pub header: RequestHeader,
    /// Mechanism parameters, as `docs/transport.md` writes them.
    pub parameters: &'a [u8],
    /// As the operation says.
    pub first: &'a [u8],
    /// As the operation says.
    pub second: &'a [u8],
    /// The data.
    pub data: &'a [u8],
}

/// A request that no message can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitError {
    /// The connection has ended.
    Lost,
    /// Parameters or templates do not fit a slot, or the data not a bulk region.
    TooLarge,
    /// The module grants no further bulk region.
    NoBulk,
    /// So many requests are in flight that the places left are kept for those that are waited for.
    Busy,
}

impl From<Lost> for SubmitError {
    fn from(_: Lost) -> Self {
        Self::Lost
    }
}

pub use crate::wait::Patience;

/// A request that is on its way. Wait for it: until then its place is taken.
#[derive(Debug)]
pub enum Ticket {
    /// In a ring.
    Ring(ring_client::Ticket),
    /// Answered already: a stream carries one message at a time.
    Stream(stream::Answer),
}

/// A connection to one partition.
#[derive(Debug)]
pub enum Connection {
    /// Shared memory with a module on this host.
    Ring(Box<RingConnection>),
    /// A stream to a proxy.
    Stream(Box<StreamConnection>),
}

impl Connection {
    /// Connects to the socket at `path`, or to a pseudo-path below `VSOCK_PREFIX`.
    pub fn open(path: &Path) -> Result<Self, ConnectError> {
        match path
            .to_str()
            .and_then(|text| text.strip_prefix(VSOCK_PREFIX))
        {
            Some(address) => Self::over(connect_vsock(address)?),
            None => Self::over(UnixStream::connect(path)?),
        }
    }

    /// Shakes hands over a connected socket.
    pub fn over(socket: UnixStream) -> Result<Self, ConnectError> {
        socket.set_read_timeout(Some(HANDSHAKE_LIMIT))?;
        socket.set_write_timeout(Some(HANDSHAKE_LIMIT))?;
        send_with_descriptors(&socket, &Hello::default().encode(), &[])?;
        let (bytes, descriptors) = receive_with_descriptors::<WELCOME_BYTES>(&socket, 3)?;
        let welcome =
            Welcome::decode(&bytes).map_err(|error| ConnectError::Protocol(error.to_string()))?;
        if welcome.refusal != Refusal::None {
            return Err(ConnectError::Refused(welcome.refusal));
        }
        if descriptors.is_empty() {
            return Ok(Self::Stream(Box::new(StreamConnection::new(
                socket, welcome,
            )?)));
        }
        Ok(Self::Ring(Box::new(RingConnection::new(
            socket,
            welcome,
            descriptors,
        )?)))
    }

    /// What a new thread knows about waiting.
    pub fn patience() -> Patience {
        Patience::new()
    }

    /// The partition's name and the module's instance.
    pub fn welcome(&self) -> &Welcome {
        match self {
            Self::Ring(ring) => ring.welcome(),
            Self::Stream(stream) => stream.welcome(),
        }
    }

    /// Changes whenever something changes that a client may have cached.
    pub fn epoch(&self) -> u64 {
        match self {
            Self::Ring(ring) => ring.status().epoch(),
            Self::Stream(stream) => stream.epoch(),
        }
    }

    /// Whether the connection has ended, as far as is known without asking.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Ring(ring) => ring.is_lost(),
            Self::Stream(stream) => stream.is_lost(),
        }
    }

    /// Asks the socket whether the module still lives.
    pub fn check(&self) -> Result<(), Lost> {
        match self {
            Self::Ring(ring) => ring.check(),
            Self::Stream(stream) => stream.check(),
        }
    }

    /// In a forked child: the connection is lost, and the child's copies of its descriptors are
    /// closed, so that the connection ends with its owner.
    pub fn abandon(&self) {
        match self {
            Self::Ring(ring) => ring.abandon(),
            Self::Stream(stream) => stream.abandon(),
        }
    }

    /// Sends a request.
    pub fn submit(&self, request: &Request<'_>) -> Result<Ticket, SubmitError> {
        match self {
            Self::Ring(ring) => ring.submit(request).map(Ticket::Ring),
            Self::Stream(stream) => stream.exchange(request).map(Ticket::Stream),
        }
    }

    /// As `submit`, for a request that stays in flight while its caller does other things: never
    /// waits for a place, and says `Busy` before the last places are taken.
    pub fn try_submit(&self, request: &Request<'_>) -> Result<Ticket, SubmitError> {
        match self {
            Self::Ring(ring) => ring.try_submit(request).map(Ticket::Ring),
            Self::Stream(stream) => stream.exchange(request).map(Ticket::Stream),
        }
    }

    /// Whether a request can be on its way while its caller does other things.
    pub fn keeps_in_flight(&self) -> bool {
        matches!(self, Self::Ring(_))
    }

    /// Rings once more for a request that no worker has taken yet.
    pub fn nudge(&self, ticket: &Ticket) {
        if let (Self::Ring(ring), Ticket::Ring(ticket)) = (self, ticket) {
            ring.nudge(ticket);
        }
    }

    /// Gives up waiting for an answer; what the request does at the module is done all the same.
    pub fn forget(&self, ticket: Ticket) {
        if let (Self::Ring(ring), Ticket::Ring(ticket)) = (self, ticket) {
            ring.forget(ticket);
        }
    }

    /// Sends as many of the requests as there is room for at this moment, at least one, with one
    /// wake-up of the module at most. Appends their tickets; returns how many there are. A request
    /// that cannot be carried ends the batch: the error is returned if it is the first one.
    pub fn submit_many(
        &self,
        requests: &[Request<'_>],
        tickets: &mut Vec<Ticket>,
    ) -> Result<usize, SubmitError> {
        match self {
            Self::Ring(ring) => {
                ring.submit_many(requests, |ticket| tickets.push(Ticket::Ring(ticket)))
            }
            Self::Stream(stream) => {
                for (count, request) in requests.iter().enumerate() {
                    match stream.exchange(request) {
                        Ok(answer) => tickets.push(Ticket::Stream(answer)),
                        Err(error) if count == 0 => return Err(error),
                        Err(_) => return Ok(count),
                    }
                }
                Ok(requests.len())
            }
        }
    }

    /// As `submit_many`, for a caller that has answers to take: `Busy` where there is no room.
    pub fn try_submit_many(
        &self,
        requests: &[Request<'_>],
        tickets: &mut Vec<Ticket>,
    ) -> Result<usize, SubmitError> {
        match self {
            Self::Ring(ring) => {
                ring.try_submit_many(requests, |ticket| tickets.push(Ticket::Ring(ticket)))
            }
            Self::Stream(_) => self.submit_many(requests, tickets),
        }
    }

    /// Whether the answer is there.
    pub fn is_ready(&self, ticket: &Ticket) -> bool {
        match (self, ticket) {
            (Self::Ring(ring), Ticket::Ring(ticket)) => ring.is_ready(ticket),
            _ => true,
        }
    }

    /// Waits until the answer is there, and leaves it there.
    pub fn wait_until(&self, ticket: &Ticket, patience: &mut Patience) -> Result<(), Lost> {
        match (self, ticket) {
            (Self::Ring(ring), Ticket::Ring(ticket)) => ring.wait_answer(ticket, patience),
            _ => Ok(()),
        }
    }

    /// Waits for the answer and hands its header and output to `read`. With an error result the
    /// output is empty.
    pub fn wait<T>(
        &self,
        ticket: Ticket,
        patience: &mut Patience,
        read: impl FnOnce(ResponseHeader, &[u8]) -> T,
    ) -> Result<T, Lost> {
        match (self, ticket) {
            (Self::Ring(ring), Ticket::Ring(ticket)) => ring.wait(ticket, patience, read),
            (_, Ticket::Stream(answer)) => Ok(read(answer.header, &answer.output)),
            (Self::Stream(_), Ticket::Ring(_)) => Err(Lost),
        }
    }

    /// Waits for the answers of several requests, and hands each one's place, header and output to
    /// `read`, in their order; a batch costs one wake-up.
    pub fn wait_many(
        &self,
        tickets: Vec<Ticket>,
        patience: &mut Patience,
        mut read: impl FnMut(usize, ResponseHeader, &[u8]),
    ) -> Result<(), Lost> {
        if let (Self::Ring(ring), Some(Ticket::Ring(last))) = (self, tickets.last()) {
            ring.wait_answer(last, patience)?;
        }
        for (place, ticket) in tickets.into_iter().enumerate() {
            self.wait(ticket, patience, |header, output| {
                read(place, header, output);
            })?;
        }
        Ok(())
    }

    /// Submits, waits, and hands the answer to `read`.
    pub fn call<T>(
        &self,
        request: &Request<'_>,
        patience: &mut Patience,
        read: impl FnOnce(ResponseHeader, &[u8]) -> T,
    ) -> Result<T, SubmitError> {
        let ticket = self.submit(request)?;
        Ok(self.wait(ticket, patience, read)?)
    }
}

/// Connects to `CID/PORT`.
fn connect_vsock(address: &str) -> io::Result<UnixStream> {
    let invalid = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{VSOCK_PREFIX}{address}: expected {VSOCK_PREFIX}CID/PORT, both numbers"),
        )
    };
    let (cid, port) = address.split_once('/').ok_or_else(invalid)?;
    // SAFETY: all-zero is a valid address structure.
    let mut target: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    target.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    target.svm_cid = cid.parse().map_err(|_| invalid())?;
    target.svm_port = port.parse().map_err(|_| invalid())?;
    // SAFETY: plain system call; the result is checked.
    let raw = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor, ours alone. Reading and writing it is that of any stream socket.
    let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(raw) });
    let size = std::mem::size_of::<libc::sockaddr_vm>() as libc::socklen_t;
    // SAFETY: the address lives during the call and has the size that it says.
    let done = unsafe { libc::connect(raw, (&raw const target).cast(), size) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(socket)
    }
}
