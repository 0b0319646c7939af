//! Waiting: spin within a budget, then sleep on a futex.
//!
//! A sleep and a wake-up across CPUs cost some 65 us on a virtual machine, more than three P-256
//! signatures; spinning costs a CPU, and where it takes that CPU from the one who answers it costs
//! the answer. So a client spins only
//! - where its control group's quota is two CPUs or more;
//! - while its partition's first worker is on another CPU, or was when it fell asleep;
//! - for a small multiple of the time that such requests took lately, never beyond its limit; a
//!   request that takes longer than the limit is slept through from the beginning;
//! - for requests of more than `LONG`, while there is a second CPU for each one under way and for
//!   each worker that is awake: they need them more.
//!
//! Otherwise it sleeps at once, which on one CPU hands it over to the worker. A thread that keeps
//! waiting at the wrong place moves (`Patience::waited`).

use crate::clock::Moment;
use crate::cpus;
use crate::protocol::AtomicU32;
#[cfg(not(loom))]
use std::sync::OnceLock;
#[cfg(not(loom))]
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Requests that take longer than this, in nanoseconds, are worth a wake-up of their own.
pub const LONG: u64 = 8_000;
/// The variable that bounds a client's spinning.
pub const SPIN_VARIABLE: &str = "CASEMATE_SPIN_MICROSECONDS";
/// The bound where the variable does not say otherwise, in microseconds.
const SPIN_USUAL: u64 = 1_000;
/// The most that the variable may say, in microseconds.
const SPIN_MOST: u64 = 1_000_000;
/// What is added to a request's usual time, in nanoseconds: others before it.
const MARGIN_AWAKE: u64 = 20_000;
/// The same where the worker slept: its wake-up on another CPU.
const MARGIN_ASLEEP: u64 = 150_000;
/// Looks between two looks at the clock.
const TURNS: u32 = 16;
/// After so many long waits a thread asks anew for its CPUs.
const WAITS_BETWEEN_LOOKS: u32 = 64;
/// After so many of them at the wrong place a thread leaves it.
const MISPLACED: u32 = 8;
/// The same with short requests, which sleeping makes many times longer.
const MISPLACED_SHORT: u32 = 2;
/// Where there was no better place it waits twice as long each time, so many times.
const REFUSED_MOST: u32 = 10;

/// The futex word of a slot is shared between processes, so the call is not the private one.
///
/// Returns when woken, when the word is not `expected`, after `timeout` (None: never), or on a
/// signal: callers look again.
#[cfg(not(loom))]
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let limit = timeout.map(|timeout| libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the word and the timeout live during the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            limit,
            0,
            0,
        );
    }
}

/// Wakes at most so many of those who sleep on the word, which may be mapped read-only.
#[cfg(not(loom))]
pub fn futex_wake(word: &AtomicU32, most: i32) {
    // SAFETY: the word lives during the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE,
            most,
            0,
            0,
            0,
        );
    }
}

/// The longest that a client of this process spins for one request, in nanoseconds.
#[cfg(not(loom))]
fn spin_limit() -> u64 {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        // SAFETY: cannot fail. A program with raised rights does not take its caller's word.
        let raised = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
        let microseconds = std::env::var(SPIN_VARIABLE).ok().filter(|_| !raised);
        let microseconds = microseconds.and_then(|text| text.trim().parse::<u32>().ok());
        microseconds.map_or(SPIN_USUAL, |given| u64::from(given).min(SPIN_MOST)) * 1_000
    })
}

/// The CPU of the worker that answered a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// No other worker was awake.
    Alone(u32),
    /// Others were.
    OneOfSeveral(u32),
}

/// What a thread knows about the CPUs it may wait on; keep one per thread or per session.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    /// 0: not asked yet.
    cpus: u32,
    waits: u32,
    /// Waits one after the other at the wrong place: beside the only worker, or apart from one of
    /// several.
    misplaced: u32,
    /// How often there was no better place, one time after the other.
    refused: u32,
}

impl Patience {
    /// For a thread that has not waited yet.
    pub const fn new() -> Self {
        Self {
            cpus: 0,
            waits: 0,
            misplaced: 0,
            refused: 0,
        }
    }

    fn cpus(&mut self) -> u32 {
        if self.cpus == 0 {
            self.cpus = cpus::available();
        }
        self.cpus
    }

    /// Whether the one who answers, who was last seen on this CPU, can run while this thread spins.
    #[cfg(not(loom))]
    #[inline]
    pub fn may_spin(worker: u32) -> bool {
        worker != cpus::current() && cpus::quota().is_none_or(|quota| quota > 1)
    }

    /// It has waited long until a worker answered: its CPUs may be others by now. A thread that keeps
    /// sharing a CPU with the only worker moves to another one, where it need not sleep; one that keeps
    /// waiting on another CPU than that of its worker moves there, where waking it costs less.
    /// `expected`: what such requests usually take, in nanoseconds.
    /// A thread that may not spin does not move.
    #[cfg(not(loom))]
    pub fn waited(&mut self, server: Option<Server>, expected: u64) {
        let here = cpus::current();
        let misplaced = match server {
            Some(Server::Alone(cpu)) => cpu == here,
            Some(Server::OneOfSeveral(cpu)) => cpu != here,
            None => false,
        };
        if !misplaced {
            (self.misplaced, self.refused) = (0, 0);
        } else {
            self.misplaced += 1;
        }
        let most = if expected < LONG {
            MISPLACED_SHORT
        } else {
            MISPLACED
        };
        if self.misplaced >= most << self.refused && self.cpus() > 1 && spin_limit() > 0 {
            self.misplaced = 0;
            match server {
                Some(Server::OneOfSeveral(cpu)) => cpus::move_to(cpu),
                // A short request is better waited for on half of a CPU than by sleeping.
                _ if expected < LONG || cpus::have_room() => cpus::leave_current(),
                // To look whether there is room costs something too.
                _ => self.refused = (self.refused + 1).min(REFUSED_MOST),
            }
        }
        self.waits += 1;
        if self.waits >= WAITS_BETWEEN_LOOKS {
            self.cpus = 0;
            self.waits = 0;
        }
    }

    /// For how long to spin, in nanoseconds, for a request that usually takes `expected` by a worker
    /// that was `awake` or asleep, where `under_way` are under way on the connection.
    #[cfg(not(loom))]
    pub fn budget(&mut self, expected: u64, awake: bool, under_way: u32) -> u64 {
        budget(spin_limit(), self.cpus(), expected, awake, under_way)
    }
}

fn budget(limit: u64, cpus: u32, expected: u64, awake: bool, under_way: u32) -> u64 {
    // With one CPU the worker has another: `may_spin`.
    let crowded = expected >= LONG && under_way.saturating_mul(2) > cpus.max(2);
    if crowded || expected > limit {
        0
    } else {
        let margin = if awake { MARGIN_AWAKE } else { MARGIN_ASLEEP };
        (4 * expected + margin).min(limit)
    }
}

/// How long requests of each kind took lately, as the module's answers say.
#[cfg(not(loom))]
#[derive(Debug)]
pub struct ServiceTimes {
    nanoseconds: [AtomicU32; Self::KINDS],
}

#[cfg(not(loom))]
impl ServiceTimes {
    const KINDS: usize = 64;

    /// Nothing is known.
    pub fn new() -> Self {
        Self {
            nanoseconds: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// A number for requests of this operation with this mechanism and key.
    #[inline]
    pub fn kind(operation: u16, mechanism: u64, object: u64) -> u8 {
        let mixed = (mechanism ^ object.rotate_left(20) ^ u64::from(operation) << 48)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 32) as u8 % Self::KINDS as u8
    }

    /// What a request of this kind usually takes, in nanoseconds.
    #[inline]
    pub fn expected(&self, kind: u8) -> u64 {
        let entry = self.nanoseconds.get(usize::from(kind));
        entry.map_or(0, |time| u64::from(time.load(Ordering::Relaxed)))
    }

    /// One took this long.
    #[inline]
    pub fn learn(&self, kind: u8, nanoseconds: u32) {
        let Some(entry) = self.nanoseconds.get(usize::from(kind)) else {
            return;
        };
        let known = entry.load(Ordering::Relaxed);
        let new = if known == 0 {
            nanoseconds
        } else {
            known - known / 8 + nanoseconds / 8
        };
        // Small changes are not worth a line that goes from core to core.
        if new.abs_diff(known) > known / 64 {
            entry.store(new, Ordering::Relaxed);
        }
    }
}

#[cfg(not(loom))]
impl Default for ServiceTimes {
    fn default() -> Self {
        Self::new()
    }
}

/// How long a worker of the module looks for the next request before it sleeps.
///
/// Its limit is the policy's. Where requests come further apart than spinning could bridge it spins
/// a sixteenth of that; after a sleep that was short it spins as long as it may again. Beside a
/// client that has to run on the same CPU before there is a next request it yields between its looks.
#[derive(Clone, Copy, Debug)]
pub struct IdleSpin {
    longest: u64,
    current: u64,
    alone: bool,
}

impl IdleSpin {
    /// At most `longest` nanoseconds.
    pub fn new(longest: u64) -> Self {
        Self {
            longest,
            current: longest,
            alone: cpus::available() < 2,
        }
    }

    /// Spins until `ready` or until the budget is spent. True: ready. `beside`: somebody who is to
    /// go on may need this CPU; where there is only one it is always so.
    pub fn spin(&self, beside: bool, mut ready: impl FnMut() -> bool) -> bool {
        if self.current == 0 {
            return ready();
        }
        let beside = beside || self.alone;
        let turns = if beside { 1 } else { TURNS };
        // The clock is not looked at while requests follow each other at once.
        let mut begin = None;
        loop {
            for _ in 0..turns {
                if ready() {
                    return true;
                }
                std::hint::spin_loop();
            }
            if beside {
                std::thread::yield_now();
            }
            let begin = *begin.get_or_insert_with(Moment::now);
            if begin.elapsed() >= self.current {
                return ready();
            }
        }
    }

    /// The sleep that followed took this many nanoseconds.
    pub fn slept(&mut self, nanoseconds: u64) {
        self.current = if nanoseconds < self.longest * 4 {
            self.longest
        } else {
            self.longest / 16
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_spins_beyond_the_limit() {
        assert_eq!(budget(0, 2, 500, true, 1), 0);
        assert_eq!(budget(1_000_000, 2, 2_000_000, true, 1), 0);
        assert_eq!(budget(1_000_000, 2, 900_000, true, 1), 1_000_000);
        assert_eq!(budget(1_000_000, 2, 500, true, 1), 22_000);
        assert_eq!(budget(1_000_000, 2, 500, false, 1), 152_000);
    }

    #[test]
    fn long_requests_leave_the_cpus_to_the_workers() {
        assert!(budget(1_000_000, 2, LONG, true, 1) > 0);
        assert_eq!(budget(1_000_000, 2, LONG, true, 2), 0);
        assert!(budget(1_000_000, 4, LONG, true, 2) > 0);
        assert!(budget(1_000_000, 2, LONG - 1, true, 2) > 0);
    }

    #[cfg(not(loom))]
    #[test]
    fn nobody_spins_on_the_workers_cpu() {
        let several = cpus::quota().is_none_or(|quota| quota > 1);
        // No CPU has the largest number: the worker is on another one.
        assert_eq!(Patience::may_spin(u32::MAX - 1), several);
        let mut patience = Patience {
            cpus: 2,
            ..Patience::new()
        };
        for _ in 0..WAITS_BETWEEN_LOOKS {
            patience.waited(None, 0);
        }
        assert_eq!(patience.cpus, 0);
    }

    #[cfg(not(loom))]
    #[test]
    fn a_kind_of_request_is_learnt_from_its_answers() {
        let times = ServiceTimes::new();
        let kind = ServiceTimes::kind(31, 0x1041, 7);
        assert_eq!(times.expected(kind), 0);
        times.learn(kind, 16_000);
        assert_eq!(times.expected(kind), 16_000);
        for _ in 0..100 {
            times.learn(kind, 80_000);
        }
        assert!((70_000..=80_000).contains(&times.expected(kind)));
        times.learn(u8::MAX, 1);
        assert_eq!(times.expected(u8::MAX), 0);
    }

    #[test]
    fn an_idle_worker_spins_less_where_requests_are_rare() {
        let mut idle = IdleSpin {
            longest: 50_000,
            current: 50_000,
            alone: false,
        };
        idle.slept(10_000_000);
        assert_eq!(idle.current, 3_125);
        idle.slept(60_000);
        assert_eq!(idle.current, 50_000);
        let patient = IdleSpin {
            current: u64::MAX,
            ..idle
        };
        for beside in [false, true] {
            assert!(!idle.spin(beside, || false));
            let mut looks = 0;
            assert!(patient.spin(beside, || {
                looks += 1;
                looks > 20
            }));
        }
    }
}
