//! The state of this process: whether the library is initialised, its slots, its sessions.

use crate::fork;
use crate::link::Slots;
use crate::lock::{ForkLock, Guard};
use crate::outcome::Outcome;
use crate::registry::Places;
use crate::session::Session;
use cryptoki_sys::{
    CK_SESSION_HANDLE, CK_SLOT_ID, CKR_CRYPTOKI_ALREADY_INITIALIZED, CKR_CRYPTOKI_NOT_INITIALIZED,
    CKR_SESSION_COUNT, CKR_SESSION_HANDLE_INVALID,
};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

/// Sessions of a chunk: chunks are allocated as they are needed and kept.
const CHUNK: usize = 256;
/// Chunks that there may be: 65,536 sessions.
const CHUNKS: usize = 256;
/// A handle is a count of the entry's sessions, then the entry's number, plus one.
const COUNT_SHIFT: u32 = 16;

/// Everything this library keeps in a process.
#[derive(Debug)]
pub struct State {
    initialised: AtomicBool,
    /// A fork's child may call C_Initialize once more.
    child: AtomicBool,
    /// The partitions.
    pub slots: Slots,
    chunks: [AtomicPtr<[Entry; CHUNK]>; CHUNKS],
    table: ForkLock<Table>,
}

#[derive(Debug)]
struct Table {
    /// Entries that were ever used.
    used: usize,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Entry {
    /// The handle of the session that is here, or 0.
    handle: AtomicU64,
    /// Sessions that were here.
    count: AtomicU64,
    slot: AtomicU64,
    flags: AtomicU64,
    session: ForkLock<Option<Box<Session>>>,
}

/// The one state there is.
pub static STATE: State = State {
    initialised: AtomicBool::new(false),
    child: AtomicBool::new(false),
    slots: Slots::new(),
    chunks: [const { AtomicPtr::new(std::ptr::null_mut()) }; CHUNKS],
    table: ForkLock::new(Table {
        used: 0,
        free: Vec::new(),
    }),
};

impl State {
    /// C_Initialize.
    pub fn initialise(&self) -> Outcome {
        fork::watch();
        fork::check(|| self.after_fork());
        if self.initialised.swap(true, Ordering::AcqRel) {
            return if self.child.swap(false, Ordering::AcqRel) {
                Ok(())
            } else {
                Err(CKR_CRYPTOKI_ALREADY_INITIALIZED)
            };
        }
        self.slots.scan(&Places::from_environment());
        Ok(())
    }

    /// C_Finalize: ends all sessions and connections.
    pub fn finalise(&self) -> Outcome {
        self.require()?;
        self.initialised.store(false, Ordering::Release);
        self.child.store(false, Ordering::Release);
        for handle in self.handles(None) {
            let _ = self.remove(handle);
        }
        self.slots.iter().for_each(|slot| slot.disconnect());
        Ok(())
    }

    /// Fails unless the library is initialised; repairs the state of a forked child.
    pub fn require(&self) -> Outcome {
        fork::check(|| self.after_fork());
        if self.initialised.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(CKR_CRYPTOKI_NOT_INITIALIZED)
        }
    }

    /// Handles and slots stay; connections are the parent's, and so is what other threads were
    /// about to change.
    fn after_fork(&self) {
        if !self.initialised.load(Ordering::Acquire) {
            return;
        }
        self.child.store(true, Ordering::Release);
        // SAFETY: `fork::check` lets one thread in, before any other uses the library.
        unsafe {
            self.slots.after_fork();
            self.table.take_over(|| Table {
                used: CHUNK * CHUNKS,
                free: Vec::new(),
            });
        }
        for entry in self.entries() {
            let slot = self.slots.get(entry.slot.load(Ordering::Relaxed));
            let flags = entry.flags.load(Ordering::Relaxed);
            // SAFETY: as above.
            unsafe {
                entry
                    .session
                    .take_over(|| slot.ok().map(|slot| Box::new(Session::new(slot, flags))));
            }
        }
        let mut table = self.table.lock();
        if table.used == CHUNK * CHUNKS {
            table.free = (0..CHUNK * CHUNKS)
                .filter(|index| {
                    self.entry(*index)
                        .is_some_and(|entry| entry.handle.load(Ordering::Relaxed) == 0)
                })
                .collect();
            table.used = self.entries().count();
        }
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.chunks
            .iter()
            // SAFETY: chunks are leaked boxes.
            .filter_map(|chunk| unsafe { chunk.load(Ordering::Acquire).as_ref() })
            .flatten()
    }

    fn entry(&self, index: usize) -> Option<&Entry> {
        let chunk = self.chunks.get(index / CHUNK)?.load(Ordering::Acquire);
        // SAFETY: chunks are leaked boxes.
        unsafe { chunk.as_ref() }?.get(index % CHUNK)
    }

    /// A new session; its handle.
    pub fn add(&self, session: Session) -> Outcome<CK_SESSION_HANDLE> {
        let mut table = self.table.lock();
        let index = match table.free.pop() {
            Some(index) => index,
            None if table.used < CHUNK * CHUNKS => {
                let index = table.used;
                if let Some(chunk) = self.chunks.get(index / CHUNK)
                    && chunk.load(Ordering::Acquire).is_null()
                {
                    // Never on the stack, which is small in some programs' threads.
                    let entries: Vec<Entry> = (0..CHUNK).map(|_| Entry::new()).collect();
                    let entries: Box<[Entry; CHUNK]> = entries
                        .into_boxed_slice()
                        .try_into()
                        .map_err(|_| CKR_SESSION_COUNT)?;
                    chunk.store(Box::into_raw(entries), Ordering::Release);
                }
                table.used += 1;
                index
            }
            None => return Err(CKR_SESSION_COUNT),
        };
        drop(table);
        let entry = self.entry(index).ok_or(CKR_SESSION_COUNT)?;
        let count = entry.count.fetch_add(1, Ordering::Relaxed);
        let handle = (count << COUNT_SHIFT | index as u64) + 1;
        entry.slot.store(session.slot.id, Ordering::Relaxed);
        entry.flags.store(session.flags, Ordering::Relaxed);
        *entry.session.lock() = Some(Box::new(session));
        entry.handle.store(handle, Ordering::Release);
        Ok(handle)
    }

    /// The session with this handle, locked.
    pub fn session(&self, handle: CK_SESSION_HANDLE) -> Outcome<Locked<'_>> {
        self.require()?;
        let index = (handle.wrapping_sub(1) & ((1 << COUNT_SHIFT) - 1)) as usize;
        let entry = self.entry(index).ok_or(CKR_SESSION_HANDLE_INVALID)?;
        let guard = entry.session.lock();
        if handle == 0 || entry.handle.load(Ordering::Relaxed) != handle || guard.is_none() {
            return Err(CKR_SESSION_HANDLE_INVALID);
        }
        Ok(Locked { guard })
    }

    /// Closes the session with this handle.
    pub fn remove(&self, handle: CK_SESSION_HANDLE) -> Outcome {
        let index = (handle.wrapping_sub(1) & ((1 << COUNT_SHIFT) - 1)) as usize;
        let entry = self.entry(index).ok_or(CKR_SESSION_HANDLE_INVALID)?;
        let mut guard = entry.session.lock();
        if handle == 0
            || entry
                .handle
                .compare_exchange(handle, 0, Ordering::AcqRel, Ordering::Relaxed)
                .is_err()
        {
            return Err(CKR_SESSION_HANDLE_INVALID);
        }
        let session = guard.take();
        drop(guard);
        if let Some(mut session) = session {
            session.close();
        }
        self.table.lock().free.push(index);
        Ok(())
    }

    /// The handles of open sessions, of one slot or of all.
    pub fn handles(&self, slot: Option<CK_SLOT_ID>) -> Vec<CK_SESSION_HANDLE> {
        self.entries()
            .filter(|entry| slot.is_none_or(|slot| entry.slot.load(Ordering::Relaxed) == slot))
            .map(|entry| entry.handle.load(Ordering::Acquire))
            .filter(|handle| *handle != 0)
            .collect()
    }
}

impl Entry {
    fn new() -> Self {
        Self {
            handle: AtomicU64::new(0),
            count: AtomicU64::new(0),
            slot: AtomicU64::new(0),
            flags: AtomicU64::new(0),
            session: ForkLock::new(None),
        }
    }
}

/// A session whose lock this thread holds.
#[derive(Debug)]
pub struct Locked<'a> {
    guard: Guard<'a, Option<Box<Session>>>,
}

impl Deref for Locked<'_> {
    type Target = Session;
    fn deref(&self) -> &Session {
        match &*self.guard {
            Some(session) => session,
            // `State::session` gives out a lock only around a session, and only it empties one.
            None => unreachable!("an open session"),
        }
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        match &mut *self.guard {
            Some(session) => session,
            None => unreachable!("an open session"),
        }
    }
}
