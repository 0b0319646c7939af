//! A client's connection, as the module sees it: its ring, its sessions, its login.

use std::cell::Cell;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use casemate_transport::clock::Moment;
use casemate_transport::cpus;
use casemate_transport::layout::{BULK_BYTES, RING_BYTES, SLOT_COUNT};
use casemate_transport::memory::SharedMemory;
use casemate_transport::message::{RequestHeader, ResponseHeader, Sections};
use casemate_transport::protocol::{self, Intake};
use casemate_transport::ring::Ring;
use casemate_transport::wait::futex_wake;
use cryptoki_sys::CKR_GENERAL_ERROR;

use crate::control::Peer;
use crate::failure::Failure;
use crate::metrics::{Account, Kind, Metrics};
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
    /// What was taken from each slot.
    intakes: [Intake; SLOT_COUNT],
    /// The slot that a request was last taken from.
    latest: AtomicU32,
    /// The slot at which the next look for requests begins, so that each has its turn.
    turn: AtomicU32,
    login: AtomicU8,
    sessions: Mutex<HashMap<u64, Arc<Session>>>,
    session_changes: AtomicU64,
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
            intakes: std::array::from_fn(|_| Intake::new()),
            latest: AtomicU32::new(0),
            turn: AtomicU32::new(0),
            login: AtomicU8::new(Login::None as u8),
            sessions: Mutex::new(HashMap::new()),
            session_changes: AtomicU64::new(0),
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

    fn intake(&self, slot: u32) -> &Intake {
        let [first, ..] = &self.intakes;
        let index = slot as usize % SLOT_COUNT;
        self.intakes.get(index).unwrap_or(first)
    }

    /// Whether there is a request in the slot that one was last taken from.
    pub fn has_next(&self) -> bool {
        let slot = self.latest.load(Ordering::Relaxed);
        self.intake(slot).is_offered(self.ring.sequence(slot))
    }

    /// Takes that request, published or about to be; one bit, or 0.
    pub fn take_next(&self) -> u64 {
        let slot = self.latest.load(Ordering::Relaxed);
        if self.has_next() && self.intake(slot).claim(self.ring.sequence(slot)) {
            1 << slot
        } else {
            0
        }
    }

    /// Takes at most `most` of the published requests that no worker has yet, one bit a slot: of
    /// those that `choose` picks.
    pub fn take_requests(&self, most: u32, choose: impl FnOnce(u64) -> u64) -> u64 {
        let taken = protocol::take(self.ring.pending(), |published| {
            let published = choose(published);
            if published.count_ones() <= most {
                return published;
            }
            let turn = self.turn.load(Ordering::Relaxed) % SLOT_COUNT as u32;
            let mut left = published.rotate_right(turn);
            for _ in 0..most {
                left &= left - 1;
            }
            let chosen = published & !left.rotate_left(turn);
            let last = chosen.rotate_right(turn).ilog2() + turn;
            self.turn.store(last + 1, Ordering::Relaxed);
            chosen
        });
        let (mut claimed, mut rest) = (0, taken);
        while rest != 0 {
            let slot = rest.trailing_zeros();
            rest &= rest - 1;
            if self.intake(slot).claim(self.ring.sequence(slot)) {
                claimed |= 1 << slot;
                self.latest.store(slot, Ordering::Relaxed);
            }
        }
        claimed
    }

    /// Requests that no worker has taken (as the client says), and those that one has in hand.
    pub fn depth(&self) -> (u64, u64) {
        let published = self.ring.pending().load(Ordering::Relaxed);
        let (mut waiting, mut in_hand) = (0, 0);
        for (slot, intake) in (0..).zip(&self.intakes) {
            let offered = published & 1 << slot != 0 && intake.is_offered(self.ring.sequence(slot));
            waiting += u64::from(offered);
            in_hand += u64::from(intake.is_in_hand());
        }
        (waiting, in_hand)
    }

    /// Wakes the client that sleeps on this slot's answer.
    pub fn wake(&self, slot: u32) {
        futex_wake(self.ring.answered(slot), i32::MAX);
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
    pub fn sessions(&self) -> MutexGuard<'_, HashMap<u64, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sessions, to be changed: what was remembered of them no longer holds.
    pub fn change_sessions(&self) -> MutexGuard<'_, HashMap<u64, Arc<Session>>> {
        let sessions = self.sessions();
        self.session_changes.fetch_add(1, Ordering::Release);
        sessions
    }

    /// Counts the changes of the sessions.
    pub fn session_changes(&self) -> u64 {
        self.session_changes.load(Ordering::Acquire)
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
/// client waits for ever for a worker that went wrong. It borrows the connection while a worker has
/// it, and owns it (`keep`) where somebody else answers later.
#[derive(Debug)]
pub struct Reply<A: Asker = Arc<Connection>> {
    asker: A,
    place: Place,
    /// Keeps the region that the output goes to.
    bulk: Option<Arc<SharedMemory>>,
    /// Its figures, where it is not a worker that answers.
    account: Option<Account>,
    done: bool,
}

/// Who asked, and how its sleep ends.
pub trait Asker {
    /// The connection.
    fn connection(&self) -> &Connection;
    /// The CPU on which it is answered.
    fn cpu(&self) -> u32;
    /// The client in this slot sleeps, and its answer is there.
    fn wake(&self, slot: u32);
}

impl Asker for Arc<Connection> {
    fn connection(&self) -> &Connection {
        self
    }

    fn cpu(&self) -> u32 {
        cpus::current()
    }

    fn wake(&self, slot: u32) {
        Connection::wake(self, slot);
    }
}

/// A connection that a worker serves: the worker wakes its clients, when it suits.
#[derive(Clone, Copy, Debug)]
pub struct Attended<'a> {
    /// The connection.
    pub connection: &'a Connection,
    /// The worker's CPU, as far as it knows.
    pub cpu: u32,
    /// Set when the request's client sleeps.
    pub sleeps: &'a Cell<bool>,
}

impl Asker for Attended<'_> {
    fn connection(&self) -> &Connection {
        self.connection
    }

    fn cpu(&self) -> u32 {
        self.cpu
    }

    fn wake(&self, _: u32) {
        self.sleeps.set(true);
    }
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug)]
struct Place {
    slot: u32,
    sequence: u32,
    /// When a worker took the request.
    begin: Moment,
    /// Where the output goes, and how much fits there.
    output: *mut u8,
    room: usize,
    /// What the caller has room for.
    capacity: usize,
}

// SAFETY: the output pointer is into memory that `asker` or `bulk` keeps mapped.
unsafe impl<A: Asker + Send> Send for Reply<A> {}

impl<'a> Reply<Attended<'a>> {
    /// The duty for the request in `slot`, taken at `begin`, whose data stands at `sections`.
    pub fn new(
        client: Attended<'a>,
        slot: u32,
        header: &RequestHeader,
        placed: Option<(Sections, Option<Arc<SharedMemory>>)>,
        begin: Moment,
    ) -> Self {
        let (output, room, bulk) = match placed {
            None => (std::ptr::null_mut(), 0, None),
            Some((sections, None)) => (
                client
                    .connection
                    .ring
                    .payload(slot)
                    .wrapping_add(sections.data.offset),
                sections.room,
                None,
            ),
            Some((sections, Some(region))) => (region.base(), sections.room, Some(region)),
        };
        Self {
            place: Place {
                slot,
                sequence: header.sequence,
                begin,
                output,
                room,
                capacity: header.capacity as usize,
            },
            bulk,
            asker: client,
            account: None,
            done: false,
        }
    }

    /// The same duty for somebody who answers later, and then counts the request.
    pub fn keep(
        mut self,
        connection: &Arc<Connection>,
        metrics: &Arc<Metrics>,
        kind: Kind,
    ) -> Reply {
        self.done = true;
        Reply {
            asker: connection.clone(),
            place: self.place,
            bulk: self.bulk.take(),
            account: Some(Account {
                metrics: metrics.clone(),
                kind,
                begin: self.place.begin,
            }),
            done: false,
        }
    }
}

impl<A: Asker> Reply<A> {
    /// Where the output goes: `room` bytes of hostile memory.
    pub fn output(&self) -> (*mut u8, usize) {
        (self.place.output, self.place.room.min(self.place.capacity))
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
        if output.len() > self.place.capacity || output.len() > self.place.room {
            return self.fail(Failure::too_small(output.len()));
        }
        // SAFETY: `room` bytes are mapped behind `output`, kept by `asker` or `bulk`.
        unsafe { std::ptr::copy_nonoverlapping(output.as_ptr(), self.place.output, output.len()) };
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
        if let Some(account) = self.account.take() {
            account.settle(response.result != 0);
        }
        let connection = self.asker.connection();
        let Place { slot, sequence, .. } = self.place;
        let ring = &connection.ring;
        ring.write_response(slot, response);
        let service = u32::try_from(self.place.begin.elapsed()).unwrap_or(u32::MAX);
        ring.service(slot).store(service, Ordering::Relaxed);
        let cpu = self.asker.cpu().wrapping_add(1);
        ring.served_on(slot).store(cpu, Ordering::Relaxed);
        connection.intake(slot).release();
        if protocol::answer(ring.answered(slot), ring.waiting(slot), sequence) {
            self.asker.wake(slot);
        }
    }
}

impl<A: Asker> Drop for Reply<A> {
    fn drop(&mut self) {
        if !self.done {
            self.send(&ResponseHeader {
                result: CKR_GENERAL_ERROR,
                ..ResponseHeader::default()
            });
        }
    }
}
