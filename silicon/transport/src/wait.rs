//! Waiting: spin within a budget, then sleep on a futex.
//!
//! A sleep and a wake-up across CPUs cost some 65 us on a virtual machine, more than three P-256
//! signatures; spinning costs a CPU. So a side spins for as long as recent waits were short, never
//! beyond its budget, and not at all where only one CPU is there to spin and to answer on.

use crate::protocol::AtomicU32;
use std::time::{Duration, Instant};

/// The futex word of a slot is shared between processes, so the call is not the private one.
///
/// Returns when woken, when the word is not `expected`, after `timeout`, or on a signal: callers
/// look again.
#[cfg(not(loom))]
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Duration) {
    let limit = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
    };
    // SAFETY: the word and the timeout live during the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            &limit,
            0,
            0,
        );
    }
}

/// Wakes whoever sleeps on the word.
#[cfg(not(loom))]
pub fn futex_wake(word: &AtomicU32) {
    // SAFETY: the word lives during the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE,
            i32::MAX,
            0,
            0,
            0,
        );
    }
}

/// CPUs that this thread may run on (its affinity mask), at least 1.
pub fn available_cpus() -> usize {
    // SAFETY: a zeroed set is a valid output argument.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the size is that of the set.
    let result =
        unsafe { libc::sched_getaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), &mut set) };
    if result != 0 {
        return 1;
    }
    // SAFETY: reads the set.
    usize::try_from(unsafe { libc::CPU_COUNT(&set) })
        .unwrap_or(1)
        .max(1)
}

/// How long one side spins before it sleeps: its longest, and what it learnt.
#[derive(Clone, Copy, Debug)]
pub struct SpinBudget {
    longest: Duration,
    current: Duration,
}

impl SpinBudget {
    /// At most `longest`; none at all on one CPU.
    pub fn new(longest: Duration) -> Self {
        let longest = if available_cpus() > 1 {
            longest
        } else {
            Duration::ZERO
        };
        Self {
            longest,
            current: longest,
        }
    }

    /// Spins until `ready` or until the budget is spent. True: ready.
    pub fn spin(&mut self, mut ready: impl FnMut() -> bool) -> bool {
        if ready() {
            return true;
        }
        if self.current.is_zero() {
            return false;
        }
        let begin = Instant::now();
        loop {
            for _ in 0..64 {
                std::hint::spin_loop();
                if ready() {
                    return true;
                }
            }
            if begin.elapsed() >= self.current {
                return false;
            }
        }
    }

    /// The sleep that followed was as long as this: a short one says that spinning longer would
    /// have paid, a long one that it did not.
    pub fn slept(&mut self, duration: Duration) {
        self.current = if duration < self.longest * 4 {
            self.longest
        } else {
            self.longest / 4
        };
    }
}
