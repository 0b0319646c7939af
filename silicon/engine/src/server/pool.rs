//! The workers of a partition: started with its first connection, changed while it serves.
//!
//! A partition's weight is a nice value of its workers, so the kernel shares the CPU between
//! partitions, and what a worker spins is charged to its own. A nice value can go up only without
//! privileges, so a change of weight (as of number) replaces the workers: those of an older
//! generation end after the request that they have.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use casemate_transport::protocol;
use casemate_transport::wait::futex_wake;

use super::places::Places;
use super::worker;
use crate::partition::{Partition, Policy};

/// Most workers of one partition.
const WORKERS_MAX: u32 = 64;
/// Workers of a partition whose policy leaves it to the module: at most.
const WORKERS_DEFAULT_MAX: usize = 4;

/// The turn that workers ask for: the least that the scheduler gives.
const TURN_NANOSECONDS: u64 = 100_000;

/// The workers of one partition.
#[derive(Debug, Default)]
pub struct Pool {
    /// Workers of an older generation end.
    generation: AtomicU64,
    pub(super) places: Places,
    /// Demoted helpers that have ended and are to be replaced.
    missing: AtomicU32,
    threads: Mutex<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    running: Vec<JoinHandle<()>>,
    /// What they were started for.
    shape: Option<Shape>,
    closed: bool,
}

/// How many workers, and how nice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    count: usize,
    nice: i32,
}

impl Shape {
    fn of(policy: &Policy) -> Self {
        let count = if policy.workers > 0 {
            policy.workers.min(WORKERS_MAX) as usize
        } else {
            std::thread::available_parallelism()
                .map_or(1, usize::from)
                .min(WORKERS_DEFAULT_MAX)
        };
        Self {
            count,
            nice: nice_of(policy.weight),
        }
    }
}

/// The nice value of a weight: 100 is 0, and the kernel gives 1.25 times the CPU for each step down.
pub fn nice_of(weight: u32) -> i32 {
    let steps = (100.0 / f64::from(weight.max(1))).ln() / 1.25f64.ln();
    steps.round().clamp(-20.0, 19.0) as i32
}

impl Pool {
    /// Whether workers of this generation go on.
    pub fn wants(&self, generation: u64) -> bool {
        self.generation.load(Ordering::Relaxed) <= generation
    }

    /// Starts the workers that the policy wants, unless there are some.
    pub fn start(&self, partition: &Arc<Partition>) -> std::io::Result<()> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if threads.closed || threads.shape.is_some() {
            return Ok(());
        }
        self.replace(partition, &mut threads)
    }

    /// Brings workers that run into line with the policy.
    pub fn adapt(&self, partition: &Arc<Partition>) -> std::io::Result<()> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if threads.closed || threads.shape.is_none() {
            return Ok(());
        }
        self.replace(partition, &mut threads)
    }

    fn replace(&self, partition: &Arc<Partition>, threads: &mut Threads) -> std::io::Result<()> {
        let wanted = Shape::of(&partition.policy());
        if threads.shape == Some(wanted) {
            return Ok(());
        }
        let generation = self.generation.load(Ordering::Relaxed) + 1;
        threads.running.retain(|thread| !thread.is_finished());
        let first = partition.clone();
        let thread = worker_thread().spawn(move || {
            take_short_turns();
            be_nice(0, wanted.nice);
            worker::run_first(&first, generation);
        })?;
        threads.running.push(thread);
        self.missing.store(0, Ordering::Relaxed);
        for _ in 1..wanted.count {
            start_helper(partition, threads, wanted.nice, generation);
        }
        self.generation.store(generation, Ordering::SeqCst);
        threads.shape = Some(wanted);
        wake_all(partition);
        Ok(())
    }

    /// A demoted helper ends.
    pub(super) fn miss_helper(&self) {
        self.missing.fetch_add(1, Ordering::Relaxed);
    }

    /// Starts helpers in the place of those that have ended. The first worker calls: a thread begins
    /// with the nice value of the one that starts it.
    pub(super) fn replace_helpers(&self, partition: &Arc<Partition>, generation: u64) {
        if self.missing.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(shape) = threads.shape.filter(|_| !threads.closed) else {
            return;
        };
        if self.generation.load(Ordering::Relaxed) == generation {
            threads.running.retain(|thread| !thread.is_finished());
            for _ in 0..self.missing.swap(0, Ordering::Relaxed) {
                start_helper(partition, &mut threads, shape.nice, generation);
            }
        }
    }

    /// Ends all workers and waits for them.
    pub fn stop(&self, partition: &Partition) {
        let running = {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            threads.closed = true;
            std::mem::take(&mut threads.running)
        };
        self.generation.store(u64::MAX, Ordering::SeqCst);
        wake_all(partition);
        for thread in running {
            let _ = thread.join();
        }
    }

    /// Workers at this moment.
    pub fn count(&self) -> usize {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = threads.running.iter().filter(|t| !t.is_finished());
        alive.count()
    }
}

fn worker_thread() -> std::thread::Builder {
    std::thread::Builder::new().name("casemate-work".into())
}

/// Starts a helper. Where there can be no further thread, fewer serve as well.
fn start_helper(partition: &Arc<Partition>, threads: &mut Threads, nice: i32, generation: u64) {
    let partition = partition.clone();
    let spawned = worker_thread().spawn(move || {
        take_short_turns();
        be_nice(0, nice);
        worker::run_helper(&partition, generation, nice);
    });
    threads.running.extend(spawned);
}

/// Has every worker look whether it shall end.
fn wake_all(partition: &Partition) {
    partition.bell.ring();
    let help = partition.status.help();
    protocol::call_help(help);
    futex_wake(help, i32::MAX);
}

/// Asks the scheduler for short turns (Linux 6.12): a worker then waits less for a CPU that others
/// use, gives it up sooner, and loses less by a yield. Older kernels refuse; nothing depends on it.
fn take_short_turns() {
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let attributes = Attributes {
        size: std::mem::size_of::<Attributes>() as u32,
        policy: 0,
        flags: 0,
        nice: current_nice(),
        priority: 0,
        runtime: TURN_NANOSECONDS,
        deadline: 0,
        period: 0,
    };
    // SAFETY: about the calling thread; the structure has the size that it says.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

fn current_nice() -> i32 {
    // SAFETY: about the calling thread. The kernel's own call gives 20 minus the nice value.
    let raw = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) };
    i32::try_from(raw).map_or(0, |raw| 20 - raw)
}

/// Gives a thread of this process, by number (0: the calling one), a nice value. Less nice than before
/// needs a privilege; without it the thread keeps what it has.
pub(super) fn be_nice(thread: i32, value: i32) {
    let thread = libc::id_t::try_from(thread).unwrap_or(0);
    // SAFETY: a plain system call.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, thread, value) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_a_nice_value() {
        assert_eq!(nice_of(100), 0);
        assert_eq!(nice_of(50), 3);
        assert_eq!(nice_of(200), -3);
        assert_eq!(nice_of(1), 19);
        assert_eq!(nice_of(0), 19);
        assert_eq!(nice_of(u32::MAX), -20);
    }
}
