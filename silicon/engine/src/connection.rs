//! A client's connection, as the module sees it: its ring, its sessions, its login.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use casemate_transport::layout::{BULK_BYTES, RING_BYTES};
use casemate_transport::memory::SharedMemory;
use casemate_transport::message::{RequestHeader, ResponseHeader, Sections};
use casemate_transport::protocol;
use casemate_transport::ring::Ring;
use casemate_transport::wait::futex_wake;
use cryptoki_sys::CKR_GENERAL_ERROR;

use crate::control::Peer;
use crate::failure::Failure;
use crate::session::Session;

/// Who is logged in; it belongs to the application, which is the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Login {
    /// Nobody.
    None = 0,
    /// The security officer.
    SecurityOfficer = 1,
    /// The user.
    User = 2,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// Unique in the module's life.
    pub id: u64,
    /// Who connected.
    pub peer: Peer,
    /// The shared memory.
    pub ring: Ring,
    /// Rings when the client has work for sleeping workers.
    pub bell: OwnedFd,
    socket: OwnedFd,
    bulk: RwLock<Vec<Arc<SharedMemory>>>,
    /// Slots that a worker has and has not answered: what the client says of them is ignored.
    busy: AtomicU64,
    login: AtomicU8,
    sessions: Mutex<HashMap<u64, Arc<Session>>>,
    closed: AtomicBool,
}

impl Connection {
    /// A connection over this ring.
    pub fn new(id: u64, peer: Peer, ring: Ring, bell: OwnedFd, socket: OwnedFd) -> Self {
        Self {
            id,
            peer,
            ring,
            bell,
            socket,
            bulk: RwLock::new(Vec::new()),
            busy: AtomicU64::new(0),
            login: AtomicU8::new(Login::None as u8),
            sessions: Mutex::new(HashMap::new()),
            closed: AtomicBool::new(false),
        }
    }

    /// The socket that it lives and dies with.
    pub fn socket(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Bytes of shared memory that it holds.
    pub fn mapped_bytes(&self) -> u64 {
        let regions = self
            .bulk
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len();
        (RING_BYTES + regions * BULK_BYTES) as u64
    }

    /// Adds a bulk region; returns its number, from 1.
    pub fn add_bulk(&self, memory: SharedMemory) -> u16 {
        let mut bulk = self.bulk.write().unwrap_or_else(PoisonError::into_inner);
        bulk.push(Arc::new(memory));
        u16::try_from(bulk.len()).unwrap_or(0)
    }

    /// Bulk regions held.
    pub fn bulk_count(&self) -> usize {
        self.bulk
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// The region that a request names, or None.
    pub fn bulk(&self, region: u16) -> Option<Arc<SharedMemory>> {
        let index = usize::from(region).checked_sub(1)?;
        self.bulk
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(index)
            .cloned()
    }

    /// Takes the published requests that no worker has yet, one bit a slot.
    pub fn take_requests(&self) -> u64 {
        let taken = protocol::take(self.ring.pending());
        if taken == 0 {
            return 0;
        }
        let before = self.busy.fetch_or(taken, Ordering::AcqRel);
        taken & !before
    }

    /// Who is logged in.
    pub fn login(&self) -> Login {
        match self.login.load(Ordering::Acquire) {
            1 => Login::SecurityOfficer,
            2 => Login::User,
            _ => Login::None,
        }
    }

    /// Sets who is logged in.
    pub fn set_login(&self, login: Login) {
        self.login.store(login as u8, Ordering::Release);
    }

    /// The sessions.
    pub fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks it as ended. True the first time.
    pub fn close(&self) -> bool {
        // SAFETY: our own descriptor; the client sees the end of the socket.
        unsafe { libc::shutdown(self.socket.as_raw_fd(), libc::SHUT_RDWR) };
        !self.closed.swap(true, Ordering::AcqRel)
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// The duty to answer one request. Dropped without an answer, it answers CKR_GENERAL_ERROR: no
/// client waits for ever for a worker that went wrong.
#[derive(Debug)]
pub struct Reply {
    connection: Arc<Connection>,
    slot: u32,
    sequence: u32,
    /// Keeps the region that the output goes to.
    _bulk: Option<Arc<SharedMemory>>,
    /// Where the output goes, and how much fits there.
    output: *mut u8,
    room: usize,
    /// What the caller has room for.
    capacity: usize,
    done: bool,
}

// SAFETY: the output pointer is into memory that `connection` or `_bulk` keeps mapped.
unsafe impl Send for Reply {}

impl Reply {
    /// The duty for the request in `slot`, whose data stands at `sections`.
    pub fn new(
        connection: Arc<Connection>,
        slot: u32,
        header: &RequestHeader,
        placed: Option<(Sections, Option<Arc<SharedMemory>>)>,
    ) -> Self {
        let (output, room, bulk) = match placed {
            None => (std::ptr::null_mut(), 0, None),
            Some((sections, None)) => (
                connection
                    .ring
                    .payload(slot)
                    .wrapping_add(sections.data.offset),
                sections.room,
                None,
            ),
            Some((sections, Some(region))) => (region.base(), sections.room, Some(region)),
        };
        Self {
            slot,
            sequence: header.sequence,
            _bulk: bulk,
            output,
            room,
            capacity: header.capacity as usize,
            connection,
            done: false,
        }
    }

    /// Where the output goes: `room` bytes of hostile memory.
    pub fn output(&self) -> (*mut u8, usize) {
        (self.output, self.room.min(self.capacity))
    }

    /// Who asked.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Answers with output that stands in place already.
    pub fn done(mut self, response: ResponseHeader) {
        self.send(&response);
    }

    /// Answers with these two values and no output.
    pub fn values(self, value0: u64, value1: u64) {
        self.done(ResponseHeader {
            value0,
            value1,
            ..ResponseHeader::default()
        });
    }

    /// Answers with this output, or says that it does not fit.
    pub fn bytes(self, output: &[u8], value0: u64, value1: u64) {
        if output.len() > self.capacity || output.len() > self.room {
            return self.fail(Failure::too_small(output.len()));
        }
        // SAFETY: `room` bytes are mapped behind `output`, kept by `connection` or `_bulk`.
        unsafe { std::ptr::copy_nonoverlapping(output.as_ptr(), self.output, output.len()) };
        self.done(ResponseHeader {
            result: 0,
            output: output.len() as u64,
            value0,
            value1,
        });
    }

    /// Answers with a failure.
    pub fn fail(self, failure: Failure) {
        self.done(ResponseHeader {
            result: failure.code,
            output: failure.needed as u64,
            value0: 0,
            value1: 0,
        });
    }

    fn send(&mut self, response: &ResponseHeader) {
        self.done = true;
        let ring = &self.connection.ring;
        ring.write_response(self.slot, response);
        self.connection
            .busy
            .fetch_and(!(1 << self.slot), Ordering::AcqRel);
        let answered = ring.answered(self.slot);
        if protocol::answer(answered, ring.waiting(self.slot), self.sequence) {
            futex_wake(answered);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.done {
            self.send(&ResponseHeader {
                result: CKR_GENERAL_ERROR,
                ..ResponseHeader::default()
            });
        }
    }
}
