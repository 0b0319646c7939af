//! The listener: accepts, shakes hands, hands out bulk regions, notices ends, for all partitions.
//!
//! One thread, one epoll set. A peer that sends nothing, half a message or garbage costs its own
//! connection: all sockets are non-blocking, a handshake has a deadline, and peers in the handshake
//! are bounded for each partition (beyond the bound the oldest goes). A partition's connections hold
//! at most its share of the descriptors that the process may have, so that one tenant's thousands
//! leave the others theirs.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
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
/// The loop looks this often for deadlines while peers are in the handshake.
const TICK_MILLISECONDS: i32 = 200;
/// Peers of one partition in the handshake at once.
const GREETING_MAX: usize = 64;
/// Connections accepted in one go, before others have their turn.
const ACCEPT_MAX: usize = 16;
/// Descriptors of one connection: its socket twice, its bell.
const DESCRIPTORS_EACH: u64 = 3;
/// Descriptors that the module keeps for itself.
const DESCRIPTORS_KEPT: u64 = 128;

/// Numbers connections over all partitions.
static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

enum Command {
    Add(Arc<Partition>, UnixListener),
    /// Answered when the partition's last connection has ended.
    Remove([u8; 16], mpsc::Sender<()>),
    Stop,
}

struct Mailbox {
    commands: Mutex<Vec<Command>>,
    bell: OwnedFd,
}

impl Mailbox {
    fn post(&self, command: Command) {
        self.commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(command);
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight bytes of our own.
        unsafe { libc::write(self.bell.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    fn take(&self) -> Vec<Command> {
        let mut count = [0u8; 8];
        // SAFETY: room for eight bytes; the descriptor does not block.
        unsafe {
            libc::read(
                self.bell.as_raw_fd(),
                count.as_mut_ptr().cast(),
                count.len(),
            )
        };
        std::mem::take(&mut self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The listener's thread; it ends when this is dropped.
pub struct Listener {
    mailbox: Arc<Mailbox>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Starts it, with nothing to listen to.
    pub fn start(instance: u64) -> io::Result<Self> {
        let mailbox = Arc::new(Mailbox {
            commands: Mutex::default(),
            bell: eventfd()?,
        });
        // SAFETY: plain system call; the result is checked.
        let epoll = super::owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        let reception = Reception {
            mailbox: mailbox.clone(),
            epoll,
            instance,
            spare: File::open("/dev/null").ok(),
            doors: HashMap::new(),
            greetings: HashMap::new(),
            connected: HashMap::new(),
        };
        reception.watch(mailbox.bell.as_raw_fd())?;
        let thread = std::thread::Builder::new()
            .name("casemate-listen".into())
            .spawn(move || reception.run())?;
        Ok(Self {
            mailbox,
            thread: Some(thread),
        })
    }

    /// Serves a bound socket for this partition.
    pub fn add(&self, partition: Arc<Partition>, socket: UnixListener) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        refuse_descriptors(socket.as_raw_fd());
        self.mailbox.post(Command::Add(partition, socket));
        Ok(())
    }

    /// Closes a partition's socket and ends its connections.
    pub fn remove(&self, partition: &[u8; 16]) {
        let (done, ended) = mpsc::channel();
        self.mailbox.post(Command::Remove(*partition, done));
        let _ = ended.recv();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.mailbox.post(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The socket of a partition.
struct Door {
    partition: Arc<Partition>,
    socket: UnixListener,
}

struct Greeting {
    partition: Arc<Partition>,
    stream: UnixStream,
    bytes: Vec<u8>,
    deadline: Instant,
}

struct Connected {
    partition: Arc<Partition>,
    connection: Arc<Connection>,
    stream: UnixStream,
    bytes: Vec<u8>,
}

/// The thread's state.
struct Reception {
    mailbox: Arc<Mailbox>,
    epoll: OwnedFd,
    instance: u64,
    /// Given up when the process has no descriptor left, so that peers can be turned away.
    spare: Option<File>,
    doors: HashMap<RawFd, Door>,
    greetings: HashMap<RawFd, Greeting>,
    connected: HashMap<RawFd, Connected>,
}

impl Reception {
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

    fn run(mut self) {
        loop {
            let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
            let timeout = if self.greetings.is_empty() {
                -1
            } else {
                TICK_MILLISECONDS
            };
            // SAFETY: room for 64 events.
            let count = unsafe {
                libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), 64, timeout)
            };
            for event in events.iter().take(usize::try_from(count).unwrap_or(0)) {
                let fd = event.u64 as RawFd;
                if fd == self.mailbox.bell.as_raw_fd() {
                    if !self.obey() {
                        return;
                    }
                } else if self.doors.contains_key(&fd) {
                    self.accept(fd);
                } else if self.greetings.contains_key(&fd) {
                    self.greet(fd);
                } else if self.connected.contains_key(&fd) {
                    self.hear(fd);
                }
            }
            let now = Instant::now();
            self.greetings.retain(|_, greeting| greeting.deadline > now);
        }
    }

    /// Does what the engine asks. False: the end.
    fn obey(&mut self) -> bool {
        for command in self.mailbox.take() {
            match command {
                Command::Add(partition, socket) => {
                    let fd = socket.as_raw_fd();
                    if self.watch(fd).is_ok() {
                        self.doors.insert(fd, Door { partition, socket });
                    }
                }
                Command::Remove(id, done) => {
                    self.remove(&id);
                    let _ = done.send(());
                }
                Command::Stop => {
                    let ids: Vec<_> = self.doors.values().map(|d| d.partition.id).collect();
                    ids.iter().for_each(|id| self.remove(id));
                    return false;
                }
            }
        }
        true
    }

    fn remove(&mut self, id: &[u8; 16]) {
        self.doors.retain(|_, door| door.partition.id != *id);
        self.greetings
            .retain(|_, greeting| greeting.partition.id != *id);
        self.connected.retain(|_, peer| {
            let ends = peer.partition.id == *id;
            if ends {
                end(&peer.partition, &peer.connection);
            }
            !ends
        });
    }

    fn accept(&mut self, door: RawFd) {
        for _ in 0..ACCEPT_MAX {
            let Some(Door { partition, socket }) = self.doors.get(&door) else {
                return;
            };
            let (stream, partition) = match socket.accept() {
                Ok((stream, _)) => (stream, partition.clone()),
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    // Without this the peer would wait, and this thread would spin.
                    self.spare = None;
                    drop(socket.accept());
                    self.spare = File::open("/dev/null").ok();
                    return;
                }
                Err(_) => return,
            };
            let fd = stream.as_raw_fd();
            refuse_descriptors(fd);
            if stream.set_nonblocking(true).is_err() || self.watch(fd).is_err() {
                continue;
            }
            self.make_room(&partition);
            let greeting = Greeting {
                partition,
                stream,
                bytes: Vec::new(),
                deadline: Instant::now() + HANDSHAKE_LIMIT,
            };
            self.greetings.insert(fd, greeting);
        }
    }

    /// Turns the peer away that has been in the partition's handshake longest, where it is full.
    fn make_room(&mut self, partition: &Partition) {
        let own = || {
            self.greetings
                .iter()
                .filter(|(_, greeting)| greeting.partition.id == partition.id)
        };
        if own().count() < GREETING_MAX {
            return;
        }
        let oldest = own()
            .min_by_key(|(_, greeting)| greeting.deadline)
            .map(|(fd, _)| *fd);
        if let Some(fd) = oldest {
            self.greetings.remove(&fd);
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
        let partition = greeting.partition;
        let hello = <[u8; HELLO_BYTES]>::try_from(greeting.bytes)
            .ok()
            .and_then(|bytes| Hello::decode(&bytes).ok());
        let refusal = match hello {
            None => Refusal::Malformed,
            Some(hello) if hello.common_version().is_none() => Refusal::Version,
            Some(_) if partition.state() != PartitionState::Operational => Refusal::Suspended,
            Some(_) => match self.connect(&partition, &greeting.stream) {
                Ok(Some(connection)) => {
                    let connected = Connected {
                        partition,
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
        let welcome = self.welcome(&partition, refusal);
        let _ = send_with_descriptors(&greeting.stream, &welcome.encode(), &[]);
    }

    fn welcome(&self, partition: &Partition, refusal: Refusal) -> Welcome {
        Welcome {
            refusal,
            version: PROTOCOL_VERSION,
            instance: self.instance,
            name: partition.name().to_owned(),
        }
    }

    /// Connections that one partition may have of the descriptors of the process.
    fn share(&self) -> usize {
        let partitions = self.doors.len().max(1) as u64;
        let left = descriptor_limit().saturating_sub(DESCRIPTORS_KEPT + 8 * partitions);
        usize::try_from(left / DESCRIPTORS_EACH / partitions).unwrap_or(usize::MAX)
    }

    fn connect(
        &self,
        partition: &Arc<Partition>,
        stream: &UnixStream,
    ) -> io::Result<Option<Arc<Connection>>> {
        if partition.connections().len() >= self.share() {
            return Err(io::Error::other("no descriptors"));
        }
        partition.workers.start(partition)?;
        let (memory, ring_fd) = SharedMemory::create(c"casemate-ring", RING_BYTES, false)?;
        let ring = Ring::new(memory).ok_or_else(|| io::Error::other("ring"))?;
        let bell = eventfd()?;
        let socket = OwnedFd::from(stream.try_clone()?);
        let id = NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection::new(id, peer_of(stream)?, ring, bell, socket));
        if !partition.add_connection(connection.clone()) {
            return Ok(None);
        }
        let descriptors = [
            ring_fd.as_raw_fd(),
            partition.status_fd.as_raw_fd(),
            connection.bell.as_raw_fd(),
        ];
        let welcome = self.welcome(partition, Refusal::None);
        let done = partition
            .bell
            .add(connection.bell.as_raw_fd())
            .and_then(|()| send_with_descriptors(stream, &welcome.encode(), &descriptors));
        if let Err(error) = done {
            end(partition, &connection);
            return Err(error);
        }
        // Workers that spin without connections to look at would never see the first request.
        partition.bell.ring();
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
                valid && grant_bulk(&peer.partition, &peer.connection, &peer.stream).is_ok()
            }
            Err(_) => false,
        };
        if !fine && let Some(ended) = self.connected.remove(&fd) {
            end(&ended.partition, &ended.connection);
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

/// Has the kernel refuse descriptors that peers send (Linux 6.16); before that those that come are
/// closed unseen, since reads offer no room for them.
fn refuse_descriptors(socket: RawFd) {
    const SO_PASSRIGHTS: libc::c_int = 83;
    let off: libc::c_int = 0;
    // SAFETY: the option's value lives during the call and has the size given.
    unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const off).cast(),
            std::mem::size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
}

fn descriptor_limit() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 1024,
        rlim_max: 1024,
    };
    // SAFETY: the output argument lives during the call.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur
}
