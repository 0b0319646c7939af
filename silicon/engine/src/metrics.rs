//! Figures of a partition, in a page that other processes read.
//!
//! Rust and not Python: the workers write it, for every request, in a few nanoseconds. Each worker has
//! an area of the page for itself (`casemate_transport::metrics` has the layout) and adds to its
//! figures by a load and a store: no locked instruction, no cache line that another thread writes.
//! Threads that answer seldom (the firmware's decisions, PINs) share area 0 behind a lock.
//!
//! What can be told: how often, how long, with which mechanism; never a key, a session or a byte of
//! data. Labels are bounded: operations of the wire and mechanisms that silicon knows, whatever
//! numbers a client sends.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use casemate_transport::clock::Moment;
use casemate_transport::memory::SharedMemory;
use casemate_transport::message::Operation;
use casemate_transport::metrics::{
    AREA_BYTES, AREAS, BUCKETS, ENTRIES, ENTRY_BYTES, FIRST_SHIFT, HEAD_BYTES, MAGIC, NAME_BYTES,
    NO_MECHANISM, OTHERS, PAGE_BYTES, VERSION, bucket_of, entry, head,
};

use crate::mechanisms;

/// What a request was, for its figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The code in the request's header.
    pub operation: u16,
    /// The mechanism in the request's header.
    pub mechanism: u64,
}

/// A request that ends on a thread without a meter: its figures, still to be written.
#[derive(Debug)]
pub struct Account {
    /// Where.
    pub metrics: Arc<Metrics>,
    /// What it was.
    pub kind: Kind,
    /// When a worker took it.
    pub begin: Moment,
}

impl Account {
    /// It was answered.
    pub fn settle(self, failed: bool) {
        self.metrics
            .record_elsewhere(self.kind, self.begin.elapsed(), failed);
    }
}

/// A partition's page.
#[derive(Debug)]
pub struct Metrics {
    memory: SharedMemory,
    /// What readers are given: they cannot write through it.
    pub descriptor: OwnedFd,
    state: Mutex<State>,
    /// The figures of all threads but the workers.
    elsewhere: Mutex<Figures>,
}

#[derive(Debug, Default)]
struct State {
    /// Areas that nobody writes at the moment.
    free: Vec<usize>,
    /// The clocks of the threads that write one.
    clocks: Vec<(usize, libc::clockid_t)>,
    /// CPU time of threads that have ended, in nanoseconds.
    ended: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Metrics {
    /// A page for the partition of this name, with nothing counted.
    pub fn new(name: &str) -> std::io::Result<Self> {
        let (memory, descriptor) = SharedMemory::create(c"casemate-metrics", PAGE_BYTES, true)?;
        let page = Self {
            memory,
            descriptor,
            state: Mutex::new(State {
                free: (1..AREAS).rev().collect(),
                ..State::default()
            }),
            elsewhere: Mutex::new(Figures::new(0)),
        };
        page.write_head(name);
        Ok(page)
    }

    fn write_head(&self, name: &str) {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |passed| passed.as_secs());
        let mut bytes = [0u8; head::NAME + NAME_BYTES];
        let numbers: [(usize, &[u8]); 7] = [
            (head::VERSION, &VERSION.to_le_bytes()),
            (head::BUCKETS, &(BUCKETS as u16).to_le_bytes()),
            (head::AREAS, &(AREAS as u32).to_le_bytes()),
            (head::ENTRIES, &(ENTRIES as u32).to_le_bytes()),
            (head::ENTRY_BYTES, &(ENTRY_BYTES as u32).to_le_bytes()),
            (head::FIRST_SHIFT, &FIRST_SHIFT.to_le_bytes()),
            (head::SINCE, &since.to_le_bytes()),
        ];
        let shown = name.as_bytes();
        let shown = shown.get(..NAME_BYTES).unwrap_or(shown);
        for (offset, value) in numbers.into_iter().chain([(head::NAME, shown)]) {
            if let Some(place) = bytes.get_mut(offset..offset + value.len()) {
                place.copy_from_slice(value);
            }
        }
        // SAFETY: the head is inside the mapping, and nobody else has it yet.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.base(), bytes.len());
        }
        self.word32(head::USED).store(1, Ordering::Relaxed);
        self.word32(head::MAGIC).store(MAGIC, Ordering::Release);
    }

    fn word32(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: every offset used is inside the page and a multiple of four; the mapping lives as
        // long as `self`; the module alone writes it.
        unsafe { &*self.memory.base().add(offset).cast::<AtomicU32>() }
    }

    fn word64(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: as in `word32`, with multiples of eight.
        unsafe { &*self.memory.base().add(offset).cast::<AtomicU64>() }
    }

    /// The calling thread's own meter: a worker keeps it for its life.
    pub fn meter(self: &Arc<Self>) -> Meter {
        let mut clock = 0;
        // SAFETY: about the calling thread; the output argument lives.
        let known = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) } == 0;
        let mut state = lock(&self.state);
        let area = state.free.pop();
        let number = area.unwrap_or(0);
        if known {
            state.clocks.push((number, clock));
        }
        if let Some(area) = area {
            let used = self.word32(head::USED);
            let beginning = u32::try_from(area + 1).unwrap_or(0);
            used.store(
                used.load(Ordering::Relaxed).max(beginning),
                Ordering::Release,
            );
        }
        drop(state);
        let mut figures = Figures::new(number);
        figures.recall(self);
        Meter {
            metrics: self.clone(),
            figures: area.is_some().then_some(figures),
            clock: known.then_some(clock),
        }
    }

    /// A request that was answered by a thread which has no meter.
    pub fn record_elsewhere(&self, kind: Kind, nanoseconds: u64, failed: bool) {
        lock(&self.elsewhere).record(self, kind, nanoseconds, failed);
    }

    /// Nanoseconds of CPU that the workers have used.
    pub fn cpu_nanoseconds(&self) -> u64 {
        let state = lock(&self.state);
        let running = state.clocks.iter().map(|(_, clock)| time_of(*clock));
        running.fold(state.ended, u64::saturating_add)
    }

    /// Requests counted so far, and how many of them failed.
    pub fn totals(&self) -> (u64, u64) {
        let used = self.word32(head::USED).load(Ordering::Acquire) as usize;
        let mut totals = (0u64, 0u64);
        for area in 0..used.min(AREAS) {
            for index in 0..ENTRIES {
                let at = HEAD_BYTES + area * AREA_BYTES + index * ENTRY_BYTES;
                // What lies behind the first free entry was never touched, and takes no memory.
                if self.word32(at + entry::OPERATION).load(Ordering::Acquire) == 0 {
                    break;
                }
                totals.1 += self.word64(at + entry::ERRORS).load(Ordering::Relaxed);
                totals.0 += (0..BUCKETS)
                    .map(|bucket| self.word64(at + entry::BUCKETS + 8 * bucket))
                    .map(|count| count.load(Ordering::Relaxed))
                    .sum::<u64>();
            }
        }
        totals
    }
}

/// Nanoseconds on a clock; 0 where it is no more.
fn time_of(clock: libc::clockid_t) -> u64 {
    // SAFETY: a zeroed structure is a valid output argument.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: the structure lives during the call; a clock of a thread that has ended is refused.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return 0;
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// A worker's right to write its area; given back when it is dropped, with the figures kept.
#[derive(Debug)]
pub struct Meter {
    metrics: Arc<Metrics>,
    /// None: every area is taken, its figures go where those of other threads go.
    figures: Option<Figures>,
    clock: Option<libc::clockid_t>,
}

impl Meter {
    /// A request was answered.
    #[inline]
    pub fn record(&mut self, kind: Kind, nanoseconds: u64, failed: bool) {
        match &mut self.figures {
            Some(figures) => figures.record(&self.metrics, kind, nanoseconds, failed),
            None => self.metrics.record_elsewhere(kind, nanoseconds, failed),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let mut state = lock(&self.metrics.state);
        if let Some(clock) = self.clock {
            // Dropped by its own thread, whose clock still goes.
            state.ended = state.ended.saturating_add(time_of(clock));
            if let Some(place) = state.clocks.iter().position(|known| known.1 == clock) {
                state.clocks.swap_remove(place);
            }
        }
        if let Some(figures) = &self.figures {
            state.free.push(figures.area);
        }
    }
}

/// Which entry of an area is whose: the writer's own knowledge, so nothing is searched in the page.
#[derive(Debug)]
struct Figures {
    area: usize,
    /// Kinds as clients lately wrote them, and their entries: mostly the next one is among them.
    recent: [(Kind, usize); RECENT],
    /// Entries by kind, in a table twice as large as there are entries; 0 is an empty place.
    table: Box<[(u64, u32); 2 * ENTRIES]>,
    used: usize,
}

/// A kind as one number that is never 0.
fn key_of(operation: u32, mechanism: u32) -> u64 {
    u64::from(operation) << 32 | u64::from(mechanism)
}

/// Places of `Figures::recent`.
const RECENT: usize = 64;
/// An empty place: for what no operation is, the entry of all others is the right one.
const NOBODY: Kind = Kind {
    operation: u16::MAX,
    mechanism: u64::MAX,
};

impl Figures {
    fn new(area: usize) -> Self {
        Self {
            area,
            recent: [(NOBODY, usize::MAX); RECENT],
            table: Box::new([(0, 0); 2 * ENTRIES]),
            used: 0,
        }
    }

    fn at(&self, index: usize) -> usize {
        HEAD_BYTES + self.area * AREA_BYTES + index.min(ENTRIES - 1) * ENTRY_BYTES
    }

    /// Finds the entries again that an earlier writer of this area has made.
    fn recall(&mut self, metrics: &Metrics) {
        while self.used < ENTRIES {
            let at = self.at(self.used);
            let operation = metrics
                .word32(at + entry::OPERATION)
                .load(Ordering::Acquire);
            if operation == 0 {
                return;
            }
            let mechanism = metrics
                .word32(at + entry::MECHANISM)
                .load(Ordering::Relaxed);
            self.keep(key_of(operation, mechanism));
        }
    }

    /// Where a key is in the table, or the empty place where it would be.
    fn place(&self, key: u64) -> usize {
        let mut place = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize % (2 * ENTRIES);
        while let Some((found, _)) = self.table.get(place)
            && *found != 0
            && *found != key
        {
            place = (place + 1) % (2 * ENTRIES);
        }
        place
    }

    /// Gives the next entry to this key; the table always has an empty place.
    fn keep(&mut self, key: u64) {
        let place = self.place(key);
        if let Some(slot) = self.table.get_mut(place) {
            *slot = (key, self.used as u32);
        }
        self.used += 1;
    }

    #[inline]
    fn record(&mut self, metrics: &Metrics, kind: Kind, nanoseconds: u64, failed: bool) {
        let hash = kind.mechanism.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let place = (hash as usize ^ usize::from(kind.operation)) % RECENT;
        #[expect(clippy::indexing_slicing, reason = "the place is below the length")]
        let (known, index) = self.recent[place];
        let index = if known == kind && index < ENTRIES {
            index
        } else {
            let index = self.find(metrics, kind);
            if let Some(entry) = self.recent.get_mut(place) {
                *entry = (kind, index);
            }
            index
        };
        let at = self.at(index);
        let add = |offset: usize, number: u64| {
            let word = metrics.word64(at + offset);
            word.store(
                word.load(Ordering::Relaxed).wrapping_add(number),
                Ordering::Relaxed,
            );
        };
        add(entry::BUCKETS + 8 * bucket_of(nanoseconds), 1);
        add(entry::NANOSECONDS, nanoseconds);
        if failed {
            add(entry::ERRORS, 1);
        }
    }

    /// The entry of this kind, made if need be; the last one of the area is everybody's.
    #[cold]
    fn find(&mut self, metrics: &Metrics, kind: Kind) -> usize {
        let (operation, mechanism) = label(kind);
        let key = key_of(operation, mechanism);
        if let Some((found, index)) = self.table.get(self.place(key))
            && *found == key
        {
            return *index as usize;
        }
        let (operation, mechanism) = if self.used < ENTRIES - 1 {
            (operation, mechanism)
        } else {
            (OTHERS, NO_MECHANISM)
        };
        if self.used < ENTRIES {
            let at = self.at(self.used);
            metrics
                .word32(at + entry::MECHANISM)
                .store(mechanism, Ordering::Relaxed);
            metrics
                .word32(at + entry::OPERATION)
                .store(operation, Ordering::Release);
            self.keep(key_of(operation, mechanism));
        }
        self.used - 1
    }
}

/// How a kind is shown: an operation that there is, with a mechanism that there is, if it has one.
fn label(kind: Kind) -> (u32, u32) {
    let Some(operation) = Operation::from_code(kind.operation) else {
        return (OTHERS, NO_MECHANISM);
    };
    let known = operation.has_mechanism() && mechanisms::find(kind.mechanism, true).is_ok();
    let mechanism = known.then(|| u32::try_from(kind.mechanism).ok()).flatten();
    (
        1 + u32::from(kind.operation),
        mechanism.unwrap_or(NO_MECHANISM),
    )
}

#[cfg(test)]
mod tests;
