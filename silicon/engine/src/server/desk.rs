//! What a worker does while it is awake: which requests it takes, from whom, and whom it wakes.
//!
//! It takes requests that last `TURN` together from a connection, then looks at the next one. Where one
//! slot's requests, short ones, are all that comes, it waits for the next one at that slot's line: a
//! look at the ring's head would take the head from the client, who is about to write there.
//!
//! A client that sleeps is woken as soon as its answer is there, unless requests are short and others
//! follow: on a CPU that the worker needs, each wake-up costs what many short requests cost, so it
//! then waits for a pause, at most for `WAKE_LATEST`.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use casemate_transport::clock::Moment;
use casemate_transport::cpus;
use casemate_transport::protocol;
use casemate_transport::wait::{LONG, futex_wake};

use super::places::Others;
use crate::connection::Connection;
use crate::dispatch::{self, Scratch, Served};
use crate::metrics::{Kind, Meter};
use crate::partition::Partition;

/// How long the requests may last that a worker takes at once, in nanoseconds.
const TURN: u64 = 16_000;
/// Requests below this, in nanoseconds, do not wait for the wake-up of others' clients.
const SHORT: u64 = 4_000;
/// A sleeping client is woken after this at the latest, in nanoseconds.
const WAKE_LATEST: u64 = 150_000;
/// Looks without a request that make a pause: some two microseconds.
const PAUSE_LOOKS: u32 = 80;
/// After so many sleeps beside a client the first worker moves to another CPU.
const TOGETHER: u32 = 16;
/// It does not move again before this, in nanoseconds.
const BETWEEN_MOVES: u64 = 5_000_000;
/// A worker leaves requests to others while it has had one of its own CPU within so many nanoseconds.
const OWN_LATELY: u64 = 100_000;
/// A helper that has served a long request while another worker did stays for so many nanoseconds.
const NEEDED: u64 = 1_000_000;
/// After so many rounds with one request, each in the same slot, a worker waits for the next one there.
const ALONE_FOR: u32 = 8;
/// Looks at such a slot: about a microsecond.
const FOLLOW_LOOKS: u32 = 48;
/// What a worker leaves to another one it takes after so many nanoseconds.
const LEFT_LATEST: u64 = 20_000;

/// What a worker has before it while it is awake.
pub(super) struct Desk<'a> {
    partition: &'a Arc<Partition>,
    /// That of its worker.
    generation: u64,
    /// Whether that is the first one.
    first: bool,
    /// The connections, as of this count of changes.
    connections: Arc<Vec<Arc<Connection>>>,
    changes: u64,
    scratch: Scratch,
    meter: Meter,
    /// What a request took lately, in nanoseconds.
    pace: u64,
    /// The CPU that the last request was written on, if it was long or its client sleeps.
    client: Option<u32>,
    /// Clients to be woken, and since when the first of them waits for it.
    sleepers: Vec<(Arc<Connection>, u32)>,
    since: Moment,
    /// Sleeps one after the other beside a client on this CPU, and when it moved away from one.
    together: u32,
    moved: Moment,
    /// The CPU for which it says in `places` that it is awake there.
    place: Option<u32>,
    /// Since when, and for how many nanoseconds, a helper takes itself to be needed.
    needed: (Moment, u64),
    /// When it last took a request of its own CPU.
    own: Option<Moment>,
    /// Since when it has left requests to other workers.
    left: Cell<Option<Moment>>,
    /// Whether there is one CPU for everybody.
    alone: bool,
    /// The connection and slot of the last request, and for how many rounds it was all there was.
    alone_in: (u64, u32),
    alone_for: u32,
}

impl<'a> Desk<'a> {
    pub(super) fn new(partition: &'a Arc<Partition>, generation: u64, first: bool) -> Self {
        Self {
            partition,
            generation,
            first,
            connections: Arc::default(),
            changes: u64::MAX,
            scratch: Scratch::default(),
            meter: partition.metrics.meter(),
            pace: 0,
            client: None,
            sleepers: Vec::new(),
            since: Moment::now(),
            together: 0,
            moved: Moment::now(),
            place: None,
            needed: (Moment::now(), 0),
            own: None,
            left: Cell::new(None),
            alone: cpus::available() < 2,
            alone_in: (0, 0),
            alone_for: 0,
        }
    }

    /// The first worker is awake: clients on its CPU must not spin, nor those that others need.
    pub(super) fn arrive(&self) {
        self.is_on(cpus::current());
    }

    fn is_on(&self, current: u32) {
        let status = &self.partition.status;
        let tell = |word: &AtomicU32, value| {
            if word.load(Ordering::Relaxed) != value {
                word.store(value, Ordering::Relaxed);
            }
        };
        tell(status.cpu(), current);
        tell(status.working(), self.partition.competition.working());
    }

    /// Before it sleeps: what has ended must not live on here.
    pub(super) fn leave(&mut self) {
        self.connections = Arc::default();
        self.changes = u64::MAX;
        self.scratch.forget();
        self.client = None;
        self.leave_place();
    }

    /// Whether it shares long requests with other workers.
    pub(super) fn shares(&self) -> bool {
        self.pace >= LONG
            && self.partition.status.helping().load(Ordering::Relaxed) != 0
            && !self.partition.competition.is_on()
    }

    /// A helper is needed from now for so many nanoseconds.
    pub(super) fn needed_for(&mut self, nanoseconds: u64) {
        self.needed = (Moment::now(), nanoseconds);
    }

    pub(super) fn is_needed(&self) -> bool {
        let (since, nanoseconds) = self.needed;
        since.elapsed() < nanoseconds
    }

    /// A helper is no help on the first worker's CPU.
    pub(super) fn avoid_first(&mut self) {
        let first = self.partition.status.cpu().load(Ordering::Relaxed);
        if first == cpus::current() && !self.alone && self.moved.elapsed() >= BETWEEN_MOVES {
            cpus::leave_current();
            self.moved = Moment::now();
        }
    }

    /// It is awake on this CPU, and other workers leave it requests.
    pub(super) fn take_place(&mut self) {
        let cpu = cpus::current();
        if self.place != Some(cpu) {
            self.leave_place();
            self.partition.workers.places.take(cpu);
            self.place = Some(cpu);
        }
    }

    /// It sleeps, or is elsewhere: nothing is left to it.
    fn leave_place(&mut self) {
        if let Some(cpu) = self.place.take() {
            self.partition.workers.places.leave(cpu);
        }
    }

    /// Wakes the clients whose answers are there.
    pub(super) fn wake_sleepers(&mut self) {
        for (connection, slot) in self.sleepers.drain(..) {
            connection.wake(slot);
        }
    }

    /// Where clients are to be woken, looks for a moment whether more requests come, then wakes them.
    /// True: they have come.
    pub(super) fn pauses_before_waking(&mut self) -> bool {
        if self.sleepers.is_empty() {
            return false;
        }
        if !self.alone {
            for _ in 0..PAUSE_LOOKS {
                if self.sees_requests() {
                    return true;
                }
                std::hint::spin_loop();
            }
        }
        self.wake_sleepers();
        false
    }

    /// Whether the last request's client needs this very CPU to go on.
    pub(super) fn has_client_beside(&self) -> bool {
        self.client.is_some_and(|cpu| cpu == cpus::current())
    }

    /// Whether the first worker looks for a next request before it sleeps. Not beside a sleeper, if
    /// there may be a CPU for each: its next request then wakes the worker on the other one. While a
    /// helper works there is none: the CPU is lent by yields.
    pub(super) fn lingers(&self, beside: bool) -> bool {
        !beside || self.alone || self.partition.status.helping().load(Ordering::Relaxed) != 0
    }

    /// Moves to another CPU, if it keeps sharing one with its client: two threads that wake each
    /// other in turns stay together for long, since neither ever waits for a CPU.
    pub(super) fn parts(&mut self, beside: bool) {
        self.together = if beside { self.together + 1 } else { 0 };
        if self.together >= TOGETHER && !self.alone && self.moved.elapsed() >= BETWEEN_MOVES {
            if cpus::have_room() {
                cpus::leave_current();
            }
            self.together = 0;
            self.moved = Moment::now();
        }
    }

    fn refresh(&mut self) {
        let changes = self.partition.connection_changes();
        if self.changes != changes {
            self.connections = self.partition.connections();
            self.changes = changes;
        }
    }

    /// Whether there are requests in the rings that it knows, or others than those.
    fn sees_requests(&self) -> bool {
        // Of long ones the bit tells the client whether a worker has them.
        let short = self.pace < LONG;
        let waits =
            |c: &Arc<Connection>| short && c.has_next() || protocol::has_requests(c.ring.pending());
        self.connections.iter().any(waits) || self.changes != self.partition.connection_changes()
    }

    /// Whether there are requests that it would take.
    pub(super) fn sees_own_requests(&self) -> bool {
        if !self.sees_requests() {
            self.left.set(None);
            return false;
        }
        if self.changes != self.partition.connection_changes() {
            return true;
        }
        let Some(mut others) = self.others() else {
            return true;
        };
        let cpu = cpus::current();
        let takes = self.connections.iter().any(|c| {
            let published = c.ring.pending().load(Ordering::Relaxed);
            published != 0 && others.choose(&c.ring, published, cpu) != 0
        });
        if !takes && self.left.get().is_none() {
            self.left.set(Some(Moment::now()));
        }
        takes
    }

    /// The workers that it leaves requests to; None if it takes all.
    fn others(&self) -> Option<Others> {
        let needed = |since: Moment| since.elapsed() < OWN_LATELY;
        if !self.shares() || !self.own.is_some_and(needed) {
            return None;
        }
        let patient = self
            .left
            .get()
            .is_none_or(|since| since.elapsed() < LEFT_LATEST);
        patient.then(|| self.partition.workers.places.others(cpus::current()))
    }

    /// Whether there are requests, without keeping anything.
    pub(super) fn looks_for_requests(&self) -> bool {
        let connections = self.partition.connections();
        connections
            .iter()
            .any(|c| protocol::has_requests(c.ring.pending()))
    }

    /// Serves one request. A defect that panics costs its own request, whose client is answered as
    /// the panic unwinds; the partition must not lose its first worker to it.
    fn serve(&mut self, connection: &Arc<Connection>, slot: u32, begin: Moment) -> Served {
        let Self {
            partition, scratch, ..
        } = self;
        let served = std::panic::catch_unwind(AssertUnwindSafe(|| {
            dispatch::serve(partition, connection, slot, scratch, begin)
        }));
        served.unwrap_or_else(|_| {
            self.scratch.abandon();
            Served {
                kind: Kind {
                    operation: 0,
                    mechanism: 0,
                },
                failed: None,
            }
        })
    }

    /// Serves some requests of each connection. True: there were any.
    pub(super) fn round(&mut self) -> bool {
        self.refresh();
        let connections = self.connections.clone();
        let mut others = self.others();
        let cpu = cpus::current();
        self.scratch.cpu = cpu;
        let (mut count, mut last) = (0, None);
        for connection in connections.iter() {
            let most = u32::try_from(TURN / self.pace.max(1)).unwrap_or(u32::MAX);
            let mut taken = connection.take_requests(most.max(1), |published| match &mut others {
                Some(others) => others.choose(&connection.ring, published, cpu),
                None => published,
            });
            if taken == 0 && self.pace < LONG {
                taken = connection.take_next();
            }
            if taken == 0 {
                continue;
            }
            count += taken.count_ones();
            last = Some((connection, taken.trailing_zeros()));
            self.left.set(None);
            self.call_help();
            let mut begin = Moment::now();
            if self.shares() && written_on(connection, taken.trailing_zeros()) == Some(cpu) {
                self.own = Some(begin);
            }
            while taken != 0 {
                let slot = taken.trailing_zeros();
                taken &= taken - 1;
                begin = self.attend(connection, slot, begin);
                if taken == 0 && self.shares() {
                    self.take_place();
                }
                if !self.sleepers.is_empty()
                    && (self.pace >= SHORT || begin.since(self.since) >= WAKE_LATEST)
                {
                    self.wake_sleepers();
                }
            }
        }
        let Some((connection, slot)) = last else {
            return false;
        };
        if self.first {
            self.is_on(cpu);
        }
        if self.comes_alone(count, connection.id, slot) {
            self.follow(connection);
        }
        true
    }

    /// Serves one request that it took at `begin`, and keeps its figures. Returns when that was done.
    fn attend(&mut self, connection: &Arc<Connection>, slot: u32, begin: Moment) -> Moment {
        let long = self.pace >= LONG;
        // Before the answer: a client that does not sleep writes the next request after it.
        self.client = long.then(|| written_on(connection, slot)).flatten();
        let shared = long && self.partition.workers.places.begin();
        let served = self.serve(connection, slot, begin);
        let end = Moment::now();
        if long {
            self.partition.workers.places.end();
        }
        if shared {
            self.needed_for(NEEDED);
        }
        let nanoseconds = end.since(begin);
        if let Some(failed) = served.failed {
            self.meter.record(served.kind, nanoseconds, failed);
        }
        self.pace = self.pace - self.pace / 8 + nanoseconds / 8;
        if self.scratch.takes_sleeper() {
            self.client = written_on(connection, slot);
            if self.sleepers.is_empty() {
                self.since = end;
            }
            self.sleepers.push((connection.clone(), slot));
        }
        end
    }

    /// Whether one slot's requests, short ones, are all that comes: one client thread's, one after
    /// the other. `count` came in this round, the last one in this slot of this connection.
    fn comes_alone(&mut self, count: u32, connection: u64, slot: u32) -> bool {
        let same = count == 1 && self.alone_in == (connection, slot);
        self.alone_in = (connection, slot);
        self.alone_for = if same { self.alone_for + 1 } else { 0 };
        self.alone_for >= ALONE_FOR && self.pace < SHORT && !self.alone && self.sleepers.is_empty()
    }

    /// Serves what comes next in the slot that a request was last taken from, for one `TURN`, without
    /// a look at the rings' heads: that would take them from the client, who is about to write there.
    fn follow(&mut self, connection: &Arc<Connection>) {
        let begin = Moment::now();
        let mut end = begin;
        while end.since(begin) < TURN && self.pace < SHORT && self.sleepers.is_empty() {
            let comes = (0..FOLLOW_LOOKS).any(|_| {
                std::hint::spin_loop();
                connection.has_next()
            });
            if !comes {
                self.alone_for = 0;
                return;
            }
            let taken = connection.take_next();
            if taken == 0 {
                return;
            }
            end = self.attend(connection, taken.trailing_zeros(), Moment::now());
        }
    }

    /// Calls a helper, if there is one asleep and requests are left that are worth it.
    fn call_help(&self) {
        if self.pace < LONG || !self.sees_requests() {
            return;
        }
        if self.partition.competition.is_calm() {
            let workers = &self.partition.workers;
            workers.replace_helpers(self.partition, self.generation);
        }
        if self.partition.status.asleep().load(Ordering::Relaxed) != 0 {
            let help = self.partition.status.help();
            protocol::call_help(help);
            futex_wake(help, 1);
        }
    }
}

/// The CPU that a request was written on, as its client says.
fn written_on(connection: &Connection, slot: u32) -> Option<u32> {
    let written = connection.ring.written_on(slot).load(Ordering::Relaxed);
    written.checked_sub(1)
}

impl Drop for Desk<'_> {
    fn drop(&mut self) {
        self.wake_sleepers();
    }
}
