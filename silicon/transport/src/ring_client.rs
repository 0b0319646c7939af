//! The ring of a connection as a client uses it: many threads, no lock on the way of a message.
//!
//! A thread takes a free slot, writes its request in place, and waits for the answer there; or it
//! fills several slots and publishes them at once. Which slots are free is the client's own
//! knowledge, in its own memory. A connection ends when the module goes away or the process forks:
//! every later call then says `Lost`.

use crate::client::{ConnectError, Lost, Patience, Request, SubmitError};
use crate::cpus;
use crate::handshake::{
    BULK_MESSAGE_BYTES, BulkMessage, Welcome, receive_with_descriptors, send_with_descriptors,
};
use crate::layout::{BULK_BYTES, BULK_REGIONS, RING_BYTES, SLOT_COUNT, STATUS_BYTES};
use crate::memory::SharedMemory;
use crate::message::{Operation, ResponseHeader, Sections};
use crate::protocol;
use crate::ring::{Ring, StatusPage};
use crate::wait::{LONG, ServiceTimes};
use std::fs::File;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

mod waiting;

/// Slots and bulk regions that `try_submit` leaves for requests that are waited for.
const SLOTS_KEPT: u32 = 16;
const BULK_KEPT: usize = 2;

/// A request that is on its way. Wait for it: the slot is free again only then.
#[derive(Debug)]
pub struct Ticket {
    slot: u32,
    sequence: u32,
    /// Bulk region, where the data did not fit.
    bulk: Option<usize>,
    sections: Sections,
    /// The request carries a PIN: it is wiped from the slot when the answer is there.
    secret: bool,
    /// Which requests it is like (`ServiceTimes`).
    kind: u8,
}

#[derive(Debug)]
struct Bulk {
    regions: Vec<SharedMemory>,
    free: Vec<usize>,
}

/// A connection to one partition through shared memory.
#[derive(Debug)]
pub struct RingConnection {
    socket: ManuallyDrop<UnixStream>,
    bell: ManuallyDrop<File>,
    /// Device and inode of the socket: tells whether the descriptor is still ours.
    identity: Option<(u64, u64)>,
    ring: ManuallyDrop<Ring>,
    status: ManuallyDrop<StatusPage>,
    /// One bit a slot.
    free: AtomicU64,
    freed: Condvar,
    freed_lock: Mutex<()>,
    sequences: [AtomicU32; SLOT_COUNT],
    times: ServiceTimes,
    bulk: ManuallyDrop<Mutex<Bulk>>,
    /// Requests that nobody waits for; their places come back once they are answered.
    forgotten: Mutex<Vec<Ticket>>,
    any_forgotten: AtomicBool,
    lost: AtomicBool,
    welcome: Welcome,
    process: u32,
}

impl RingConnection {
    /// The connection that the module's welcome and its three descriptors make.
    pub fn new(
        socket: UnixStream,
        welcome: Welcome,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Self, ConnectError> {
        let [ring, status, bell] = <[_; 3]>::try_from(descriptors).map_err(|descriptors| {
            ConnectError::Protocol(format!("{} descriptors instead of 3", descriptors.len()))
        })?;
        let ring = Ring::new(SharedMemory::open(ring.as_fd(), RING_BYTES, true)?)
            .ok_or_else(|| ConnectError::Protocol("ring of a wrong size".into()))?;
        let status = StatusPage::new(SharedMemory::open(status.as_fd(), STATUS_BYTES, false)?)
            .ok_or_else(|| ConnectError::Protocol("status page of a wrong size".into()))?;
        Ok(Self {
            identity: identity(socket.as_raw_fd()),
            socket: ManuallyDrop::new(socket),
            bell: ManuallyDrop::new(File::from(bell)),
            ring: ManuallyDrop::new(ring),
            status: ManuallyDrop::new(status),
            free: AtomicU64::new(u64::MAX),
            freed: Condvar::new(),
            freed_lock: Mutex::new(()),
            sequences: std::array::from_fn(|_| AtomicU32::new(0)),
            times: ServiceTimes::new(),
            bulk: ManuallyDrop::new(Mutex::new(Bulk {
                regions: Vec::new(),
                free: Vec::new(),
            })),
            forgotten: Mutex::new(Vec::new()),
            any_forgotten: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            welcome,
            process: std::process::id(),
        })
    }

    /// The partition's name and the module's instance.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// The partition's status page.
    pub fn status(&self) -> &StatusPage {
        &self.status
    }

    /// Whether the connection has ended, as far as is known without asking.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Asks the socket whether the module still lives.
    pub fn check(&self) -> Result<(), Lost> {
        let mut byte = 0u8;
        // SAFETY: one byte of room; peeking takes nothing away.
        let count = unsafe {
            libc::recv(
                self.socket.as_raw_fd(),
                (&raw mut byte).cast(),
                1,
                libc::MSG_PEEK | libc::MSG_DONTWAIT,
            )
        };
        let gone = count == 0
            || (count < 0
                && !matches!(
                    io::Error::last_os_error().kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ));
        if gone {
            self.lost.store(true, Ordering::Release);
        }
        if self.is_lost() { Err(Lost) } else { Ok(()) }
    }

    /// A free slot, waited for; with `kept`, `Busy` unless more than so many are free.
    fn take_slot(&self, kept: Option<u32>) -> Result<u32, SubmitError> {
        if self.any_forgotten.load(Ordering::Relaxed) {
            self.reap();
        }
        loop {
            let free = self.free.load(Ordering::Relaxed);
            if kept.is_some_and(|kept| free.count_ones() <= kept) {
                return Err(SubmitError::Busy);
            }
            if free == 0 {
                self.check()?;
                self.reap();
                let guard = self
                    .freed_lock
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                if self.free.load(Ordering::SeqCst) == 0 {
                    let _ = self.freed.wait_timeout(guard, Duration::from_millis(1));
                }
                continue;
            }
            let slot = free.trailing_zeros();
            if self
                .free
                .compare_exchange_weak(
                    free,
                    free & !(1 << slot),
                    Ordering::Acquire,
                    Ordering::Relaxed,
                )
                .is_ok()
            {
                return Ok(slot);
            }
        }
    }

    fn release_slot(&self, slot: u32) {
        if self.free.fetch_or(1 << slot, Ordering::Release) == 0 {
            self.freed.notify_all();
        }
    }

    fn take_bulk(&self, kept: usize) -> Result<usize, SubmitError> {
        if self.any_forgotten.load(Ordering::Relaxed) {
            self.reap();
        }
        let mut bulk = self.bulk.lock().unwrap_or_else(PoisonError::into_inner);
        let used = bulk.regions.len() - bulk.free.len();
        if kept > 0 && used + kept >= BULK_REGIONS {
            return Err(SubmitError::Busy);
        }
        if let Some(index) = bulk.free.pop() {
            return Ok(index);
        }
        if bulk.regions.len() >= BULK_REGIONS {
            return Err(SubmitError::NoBulk);
        }
        let answer = send_with_descriptors(&self.socket, &BulkMessage { index: 0 }.encode(), &[])
            .and_then(|()| receive_with_descriptors::<BULK_MESSAGE_BYTES>(&self.socket, 1));
        let Ok((bytes, fds)) = answer else {
            self.lost.store(true, Ordering::Release);
            return Err(SubmitError::Lost);
        };
        let index = BulkMessage::decode(&bytes).map_or(0, |message| usize::from(message.index));
        let memory = fds
            .first()
            .and_then(|fd| SharedMemory::open(fd.as_fd(), BULK_BYTES, true).ok());
        match memory {
            Some(memory) if index == bulk.regions.len() + 1 => {
                bulk.regions.push(memory);
                Ok(index - 1)
            }
            _ => Err(SubmitError::NoBulk),
        }
    }

    fn bulk_base(&self, index: usize) -> *mut u8 {
        let bulk = self.bulk.lock().unwrap_or_else(PoisonError::into_inner);
        bulk.regions
            .get(index)
            .map_or(std::ptr::null_mut(), SharedMemory::base)
    }

    fn release_bulk(&self, index: usize) {
        self.bulk
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .free
            .push(index);
    }

    /// Writes a request into a free slot and publishes it; waits for a slot.
    pub fn submit(&self, request: &Request<'_>) -> Result<Ticket, SubmitError> {
        let ticket = self.place(request, None, 0)?;
        self.publish(1 << ticket.slot);
        Ok(ticket)
    }

    /// As `submit`, for requests that stay in flight while their caller does other things: `Busy`
    /// rather than waiting, and before the last slots are taken, so that requests in flight never
    /// leave one that is waited for without a place.
    pub fn try_submit(&self, request: &Request<'_>) -> Result<Ticket, SubmitError> {
        let ticket = self.place(request, Some(SLOTS_KEPT), BULK_KEPT)?;
        self.publish(1 << ticket.slot);
        Ok(ticket)
    }

    /// Writes as many of the requests as there are free slots for, at least one, and publishes them
    /// at once: one wake-up of the module at most. Hands their tickets to `keep`; returns how many
    /// there are. A request that cannot be carried ends the batch: the error is returned if it is
    /// the first one.
    pub fn submit_many(
        &self,
        requests: &[Request<'_>],
        keep: impl FnMut(Ticket),
    ) -> Result<usize, SubmitError> {
        self.submit_batch(requests, None, keep)
    }

    /// As `submit_many`, for a caller that has answers to take: `Busy` where there is no slot, since
    /// callers that wait for each other's slots would wait for ever.
    pub fn try_submit_many(
        &self,
        requests: &[Request<'_>],
        keep: impl FnMut(Ticket),
    ) -> Result<usize, SubmitError> {
        self.submit_batch(requests, Some(0), keep)
    }

    fn submit_batch(
        &self,
        requests: &[Request<'_>],
        first_kept: Option<u32>,
        mut keep: impl FnMut(Ticket),
    ) -> Result<usize, SubmitError> {
        let mut bits = 0;
        let mut count = 0;
        for request in requests {
            match self.place(request, if count > 0 { Some(0) } else { first_kept }, 0) {
                Ok(ticket) => {
                    bits |= 1 << ticket.slot;
                    count += 1;
                    keep(ticket);
                }
                Err(error) if count == 0 => return Err(error),
                Err(_) => break,
            }
        }
        if bits != 0 {
            self.publish(bits);
        }
        Ok(count)
    }

    fn publish(&self, bits: u64) {
        if protocol::publish(self.ring.pending(), self.status.awake(), bits) {
            self.ring_bell();
        }
    }

    /// Writes a request into a free slot, waited for; with `slots_kept`, `Busy` unless more than so
    /// many are free, and `bulk_kept` bulk regions likewise.
    fn place(
        &self,
        request: &Request<'_>,
        slots_kept: Option<u32>,
        bulk_kept: usize,
    ) -> Result<Ticket, SubmitError> {
        if self.is_lost() {
            return Err(SubmitError::Lost);
        }
        let mut header = request.header;
        let short = |bytes: &[u8]| u16::try_from(bytes.len()).map_err(|_| SubmitError::TooLarge);
        header.parameters = short(request.parameters)?;
        header.first = short(request.first)?;
        header.second = short(request.second)?;
        header.data = u32::try_from(request.data.len()).map_err(|_| SubmitError::TooLarge)?;
        header.region = 0;
        let wanted = request.data.len().max(header.capacity as usize);
        let fits = header.sections(None).is_some_and(|s| wanted <= s.room);
        let (sections, bulk) = if fits {
            (header.sections(None), None)
        } else {
            if header.sections(Some(BULK_BYTES)).is_none() {
                return Err(SubmitError::TooLarge);
            }
            let index = self.take_bulk(bulk_kept)?;
            header.region = u16::try_from(index + 1).unwrap_or(0);
            (header.sections(Some(BULK_BYTES)), Some(index))
        };
        let Some(sections) = sections else {
            return Err(SubmitError::TooLarge);
        };
        let slot = match self.take_slot(slots_kept) {
            Ok(slot) => slot,
            Err(error) => {
                bulk.into_iter().for_each(|index| self.release_bulk(index));
                return Err(error);
            }
        };
        let sequence = self
            .sequences
            .get(slot as usize)
            .map_or(1, |s| s.fetch_add(1, Ordering::Relaxed).wrapping_add(1));
        header.sequence = sequence;
        let payload = self.ring.payload(slot);
        let data = match bulk {
            None => payload.wrapping_add(sections.data.offset),
            Some(index) => self.bulk_base(index),
        };
        // SAFETY: `sections` keeps every piece inside the payload (SLOT_PAYLOAD bytes) or the bulk
        // region; the sources are private memory. The slot is ours until the answer.
        unsafe {
            copy(request.parameters, payload.add(sections.parameters.offset));
            copy(request.first, payload.add(sections.first.offset));
            copy(request.second, payload.add(sections.second.offset));
            copy(request.data, data);
        }
        let cpu = cpus::current().wrapping_add(1);
        self.ring.written_on(slot).store(cpu, Ordering::Relaxed);
        self.ring.write_request(slot, &header);
        Ok(Ticket {
            slot,
            sequence,
            bulk,
            sections,
            secret: Operation::carries_pin(header.operation),
            kind: ServiceTimes::kind(header.operation, header.mechanism, header.object),
        })
    }

    fn ring_bell(&self) {
        // A full eventfd counter would mean a bell that rings already.
        let mut bell: &File = &self.bell;
        let _ = bell.write(&1u64.to_ne_bytes());
    }

    /// Whether the answer is there.
    pub fn is_ready(&self, ticket: &Ticket) -> bool {
        protocol::is_answered(self.ring.answered(ticket.slot), ticket.sequence) || self.is_lost()
    }

    /// Rings once more for a request that no worker has taken yet: those awake may all be busy.
    pub fn nudge(&self, ticket: &Ticket) {
        if self.times.expected(ticket.kind) >= LONG {
            self.ask_for_help(ticket);
        }
    }

    /// Gives up waiting: the answer is dropped, and its place is free again once it has come.
    pub fn forget(&self, ticket: Ticket) {
        if self.is_lost() {
            return;
        }
        self.forgotten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(ticket);
        self.any_forgotten.store(true, Ordering::Relaxed);
        self.reap();
    }

    /// Frees the places of forgotten requests that are answered.
    #[cold]
    fn reap(&self) {
        let mut forgotten = self
            .forgotten
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        forgotten.retain(|ticket| {
            if !protocol::is_answered(self.ring.answered(ticket.slot), ticket.sequence) {
                return true;
            }
            self.release(ticket);
            false
        });
        self.any_forgotten
            .store(!forgotten.is_empty(), Ordering::Relaxed);
    }

    /// The answer has been read: the request's places are free.
    fn release(&self, ticket: &Ticket) {
        if ticket.secret {
            self.wipe(ticket);
        }
        ticket
            .bulk
            .into_iter()
            .for_each(|index| self.release_bulk(index));
        self.release_slot(ticket.slot);
    }

    /// Waits for the answer and hands its header and output to `read`; at most
    /// `layout::MESSAGE_MAX` and some bytes. With an error result the output is empty.
    pub fn wait<T>(
        &self,
        ticket: Ticket,
        patience: &mut Patience,
        read: impl FnOnce(ResponseHeader, &[u8]) -> T,
    ) -> Result<T, Lost> {
        if self.wait_answer(&ticket, patience).is_err() {
            // The slot stays taken: a module that only stalled must not write into a new request.
            return Err(Lost);
        }
        let response = self.ring.read_response(ticket.slot);
        let service = self.ring.service(ticket.slot).load(Ordering::Relaxed);
        self.times.learn(ticket.kind, service);
        let wanted = usize::try_from(response.output).unwrap_or(usize::MAX);
        let length = if response.result == 0 {
            wanted.min(ticket.sections.room)
        } else {
            0
        };
        let base = self.data_of(&ticket);
        // SAFETY: `length` bytes from `base` are mapped (`room`). The module has answered and does
        // not write the slot again before the next request, and the client trusts its module.
        let output = unsafe { std::slice::from_raw_parts(base.cast_const(), length) };
        let value = read(response, output);
        self.release(&ticket);
        Ok(value)
    }

    /// Where a request's data and its output stand.
    fn data_of(&self, ticket: &Ticket) -> *mut u8 {
        match ticket.bulk {
            None => self
                .ring
                .payload(ticket.slot)
                .wrapping_add(ticket.sections.data.offset),
            Some(index) => self.bulk_base(index),
        }
    }

    /// Overwrites what an answered request carried.
    fn wipe(&self, ticket: &Ticket) {
        let data = self.data_of(ticket);
        let Sections {
            first, data: sent, ..
        } = ticket.sections;
        let begin = self.ring.payload(ticket.slot).wrapping_add(first.offset);
        for (begin, length) in [(begin, first.length), (data, sent.length)] {
            for offset in 0..length {
                // SAFETY: `sections` keeps both spans inside the payload or the bulk region, and the
                // slot is ours until it is released. Volatile: nobody here reads the bytes again.
                unsafe { begin.wrapping_add(offset).write_volatile(0) };
            }
        }
    }

    /// In a forked child: the connection is lost, and the child's copies of its descriptors are
    /// closed, so that the connection ends with its owner. Descriptors that the child has closed
    /// itself, and perhaps opened anew for something else, stay as they are.
    pub fn abandon(&self) {
        self.lost.store(true, Ordering::Release);
        let socket = self.socket.as_raw_fd();
        if std::process::id() != self.process
            && self.identity.is_some()
            && identity(socket) == self.identity
        {
            // SAFETY: the descriptors are those of this connection, and the drop of a connection in
            // a forked child does not touch them again.
            unsafe {
                libc::close(socket);
                libc::close(self.bell.as_raw_fd());
            }
        }
    }
}

/// Device and inode behind a descriptor.
fn identity(descriptor: std::os::fd::RawFd) -> Option<(u64, u64)> {
    // SAFETY: all-zero is a valid output argument.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the structure lives during the call.
    (unsafe { libc::fstat(descriptor, &mut status) } == 0).then_some((status.st_dev, status.st_ino))
}

impl Drop for RingConnection {
    fn drop(&mut self) {
        // In a forked child nothing is touched: the mappings are not there (MADV_DONTFORK), their
        // addresses may be something else by now, another thread of the parent may have held the
        // lock at the moment of the fork, and `abandon` has closed the descriptors.
        if std::process::id() == self.process {
            // SAFETY: dropped once, here.
            unsafe {
                ManuallyDrop::drop(&mut self.ring);
                ManuallyDrop::drop(&mut self.status);
                ManuallyDrop::drop(&mut self.bulk);
                ManuallyDrop::drop(&mut self.bell);
                ManuallyDrop::drop(&mut self.socket);
            }
        }
    }
}

/// # Safety
/// `target` must have room for all of `source`, and not overlap it.
unsafe fn copy(source: &[u8], target: *mut u8) {
    if !source.is_empty() {
        // SAFETY: by this function's contract.
        unsafe { std::ptr::copy_nonoverlapping(source.as_ptr(), target, source.len()) };
    }
}
