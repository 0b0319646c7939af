//! The workers of a partition: started with its first connection, changed while it serves.
//!
//! A partition's weight is a nice value of its workers, so the kernel shares the CPU between
//! partitions, and what a worker spins is charged to its own. A nice value can go up only without
//! privileges, so a change of weight (as of number) replaces the workers: those of an older
//! generation end after the request that they have.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::worker;
use crate::partition::{Partition, Policy};

/// Most workers of one partition.
const WORKERS_MAX: u32 = 64;
/// Workers of a partition whose policy leaves it to the module: at most.
const WORKERS_DEFAULT_MAX: usize = 4;

/// The workers of one partition.
#[derive(Debug, Default)]
pub struct Pool {
    /// Workers of an older generation end.
    generation: AtomicU64,
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
        for started in 0..wanted.count {
            let partition = partition.clone();
            let thread = std::thread::Builder::new().name("casemate-work".into());
            let spawned = thread.spawn(move || {
                be_nice(wanted.nice);
                worker::run(&partition, generation);
            });
            match spawned {
                Ok(thread) => threads.running.push(thread),
                // Fewer than wanted serve as well; none would not.
                Err(error) if started == 0 => return Err(error),
                Err(_) => break,
            }
        }
        self.generation.store(generation, Ordering::SeqCst);
        threads.shape = Some(wanted);
        // Each worker that ends wakes the next one.
        partition.bell.ring();
        Ok(())
    }

    /// Ends all workers and waits for them.
    pub fn stop(&self, partition: &Partition) {
        let running = {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            threads.closed = true;
            std::mem::take(&mut threads.running)
        };
        self.generation.store(u64::MAX, Ordering::SeqCst);
        partition.bell.ring();
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

fn be_nice(value: i32) {
    // SAFETY: plain system calls about the calling thread. Less nice than before needs a privilege;
    // without it the thread keeps the normal value.
    unsafe {
        let thread = libc::id_t::try_from(libc::gettid()).unwrap_or(0);
        libc::setpriority(libc::PRIO_PROCESS, thread, value);
    }
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
