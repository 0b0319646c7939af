//! The listener of a partition: accepts, shakes hands, hands out bulk regions, notices ends.
//!
//! One thread, one epoll set. A peer that sends nothing, half a message or garbage costs its own
//! connection: all sockets are non-blocking, and a handshake has a deadline.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use casemate_transport::handshake::{
    BULK_MESSAGE_BYTES, BulkMessage, HELLO_BYTES, Hello, Refusal, Welcome, send_with_descriptors,
};
use casemate_transport::layout::{BULK_BYTES, BULK_REGIONS, PROTOCOL_VERSION, RING_BYTES};
use casemate_transport::memory::SharedMemory;
use casemate_transport::ring::Ring;

use super::eventfd;
use crate::connection::Connection;
use crate::control::Peer;
use crate::partition::{Partition, PartitionState};

/// How long a peer may take over its hello.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// The loop looks this often for deadlines and for its end.
const TICK_MILLISECONDS: i32 = 200;
/// Peers in the handshake at once; more are turned away.
const GREETING_MAX: usize = 256;

/// Numbers connections over all partitions.
static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

struct Greeting {
    stream: UnixStream,
    bytes: Vec<u8>,
    deadline: Instant,
}

struct Connected {
    connection: Arc<Connection>,
    stream: UnixStream,
    bytes: Vec<u8>,
}

/// The loop's state.
pub struct Listener {
    partition: Arc<Partition>,
    listener: UnixListener,
    epoll: OwnedFd,
    instance: u64,
    greetings: HashMap<RawFd, Greeting>,
    connected: HashMap<RawFd, Connected>,
}

impl Listener {
    /// Serves this bound socket.
    pub fn new(
        partition: Arc<Partition>,
        listener: UnixListener,
        instance: u64,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // SAFETY: plain system call; the result is checked.
        let epoll = super::owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        let this = Self {
            partition,
            listener,
            epoll,
            instance,
            greetings: HashMap::new(),
            connected: HashMap::new(),
        };
        this.watch(this.listener.as_raw_fd())?;
        Ok(this)
    }

    fn watch(&self, fd: RawFd) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLRDHUP) as u32,
            u64: fd as u64,
        };
        // SAFETY: the event lives during the call.
        let done =
            unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Runs until `stop`, then ends every connection.
    pub fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
            // SAFETY: room for 64 events.
            let count = unsafe {
                libc::epoll_wait(
                    self.epoll.as_raw_fd(),
                    events.as_mut_ptr(),
                    64,
                    TICK_MILLISECONDS,
                )
            };
            for event in events.iter().take(usize::try_from(count).unwrap_or(0)) {
                let fd = event.u64 as RawFd;
                if fd == self.listener.as_raw_fd() {
                    self.accept();
                } else if self.greetings.contains_key(&fd) {
                    self.greet(fd);
                } else if self.connected.contains_key(&fd) {
                    self.hear(fd);
                }
            }
            let now = Instant::now();
            self.greetings.retain(|_, greeting| greeting.deadline > now);
        }
        for (_, ended) in self.connected.drain() {
            end(&self.partition, &ended.connection);
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let fd = stream.as_raw_fd();
            if self.greetings.len() >= GREETING_MAX
                || stream.set_nonblocking(true).is_err()
                || self.watch(fd).is_err()
            {
                continue;
            }
            let greeting = Greeting {
                stream,
                bytes: Vec::new(),
                deadline: Instant::now() + HANDSHAKE_LIMIT,
            };
            self.greetings.insert(fd, greeting);
        }
    }

    fn greet(&mut self, fd: RawFd) {
        let Some(greeting) = self.greetings.get_mut(&fd) else {
            return;
        };
        match receive(&greeting.stream, &mut greeting.bytes, HELLO_BYTES) {
            Ok(false) => return,
            Ok(true) => {}
            Err(_) => {
                self.greetings.remove(&fd);
                return;
            }
        }
        let Some(greeting) = self.greetings.remove(&fd) else {
            return;
        };
        let hello = <[u8; HELLO_BYTES]>::try_from(greeting.bytes)
            .ok()
            .and_then(|bytes| Hello::decode(&bytes).ok());
        let refusal = match hello {
            None => Refusal::Malformed,
            Some(hello) if hello.common_version().is_none() => Refusal::Version,
            Some(_) if self.partition.state() != PartitionState::Operational => Refusal::Suspended,
            Some(_) => match self.connect(&greeting.stream) {
                Ok(Some(connection)) => {
                    let connected = Connected {
                        connection,
                        stream: greeting.stream,
                        bytes: Vec::new(),
                    };
                    self.connected.insert(fd, connected);
                    return;
                }
                Ok(None) => Refusal::Quota,
                Err(_) => Refusal::Resources,
            },
        };
        let _ = send_with_descriptors(&greeting.stream, &self.welcome(refusal).encode(), &[]);
    }

    fn welcome(&self, refusal: Refusal) -> Welcome {
        Welcome {
            refusal,
            version: PROTOCOL_VERSION,
            instance: self.instance,
            name: self.partition.name().to_owned(),
        }
    }

    fn connect(&self, stream: &UnixStream) -> io::Result<Option<Arc<Connection>>> {
        let (memory, ring_fd) = SharedMemory::create(c"casemate-ring", RING_BYTES, false)?;
        let ring = Ring::new(memory).ok_or_else(|| io::Error::other("ring"))?;
        let bell = eventfd()?;
        let socket = OwnedFd::from(stream.try_clone()?);
        let id = NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection::new(id, peer_of(stream)?, ring, bell, socket));
        if !self.partition.add_connection(connection.clone()) {
            return Ok(None);
        }
        let descriptors = [
            ring_fd.as_raw_fd(),
            self.partition.status_fd.as_raw_fd(),
            connection.bell.as_raw_fd(),
        ];
        let done = self
            .partition
            .bell
            .add(connection.bell.as_raw_fd())
            .and_then(|()| {
                send_with_descriptors(stream, &self.welcome(Refusal::None).encode(), &descriptors)
            });
        if let Err(error) = done {
            end(&self.partition, &connection);
            return Err(error);
        }
        // Workers that spin without connections to look at would never see the first request.
        self.partition.bell.ring();
        Ok(Some(connection))
    }

    fn hear(&mut self, fd: RawFd) {
        let Some(peer) = self.connected.get_mut(&fd) else {
            return;
        };
        let fine = match receive(&peer.stream, &mut peer.bytes, BULK_MESSAGE_BYTES) {
            Ok(false) => true,
            Ok(true) => {
                let bytes = std::mem::take(&mut peer.bytes);
                let valid = <[u8; BULK_MESSAGE_BYTES]>::try_from(bytes)
                    .is_ok_and(|bytes| BulkMessage::decode(&bytes).is_ok());
                valid && grant_bulk(&self.partition, &peer.connection, &peer.stream).is_ok()
            }
            Err(_) => false,
        };
        if !fine && let Some(ended) = self.connected.remove(&fd) {
            end(&self.partition, &ended.connection);
        }
    }
}

fn end(partition: &Partition, connection: &Connection) {
    partition.bell.remove(connection.bell.as_raw_fd());
    partition.remove_connection(connection);
}

fn grant_bulk(
    partition: &Partition,
    connection: &Connection,
    stream: &UnixStream,
) -> io::Result<()> {
    let within_quota =
        partition.mapped_bytes() + BULK_BYTES as u64 <= partition.policy().mapped_bytes;
    if connection.bulk_count() >= BULK_REGIONS || !within_quota {
        return send_with_descriptors(stream, &BulkMessage { index: 0 }.encode(), &[]);
    }
    let (memory, fd) = SharedMemory::create(c"casemate-bulk", BULK_BYTES, false)?;
    let index = connection.add_bulk(memory);
    send_with_descriptors(stream, &BulkMessage { index }.encode(), &[fd.as_raw_fd()])
}

/// Reads what has come until `wanted` bytes are there. True: they are. The end of the stream is an
/// error.
fn receive(stream: &UnixStream, bytes: &mut Vec<u8>, wanted: usize) -> io::Result<bool> {
    use std::io::Read;
    while bytes.len() < wanted {
        let mut piece = vec![0; wanted - bytes.len()];
        match (&*stream).read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => bytes.extend_from_slice(piece.get(..count).unwrap_or(&[])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn peer_of(stream: &UnixStream) -> io::Result<Peer> {
    let mut credentials = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = std::mem::size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the output argument has the size that `length` says.
    let done = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &mut length,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Peer {
        uid: credentials.uid,
        gid: credentials.gid,
        pid: credentials.pid,
    })
}
