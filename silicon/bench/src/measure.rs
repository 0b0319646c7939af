//! The loop: operations in one or more threads for a while, counted, timed, with their CPU time.
//!
//! A slice warms up (it wakes a worker that sleeps), then counts, with the clock read every 50 us or
//! so, and then, with one thread only, times each operation. Rates and CPU times come from the counting
//! part, latencies from the timing part. Threads run on without a pause from the warm-up until the last
//! of them has counted: a thread's rate is that between two of its own readings of the clock, taken
//! while all others ran.

use crate::failure::Failure;
use crate::histogram::Histogram;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// One thread's share: everything that an operation needs.
pub trait Lane: Send {
    /// One operation, begun and ended; with several in flight, one begun and one ended.
    fn operate(&mut self) -> Result<(), Failure>;

    /// Ends what is still in flight, and undoes what the operations left behind.
    fn settle(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// How long to measure, and what.
#[derive(Clone, Debug)]
pub struct Slice {
    /// How long the counting part lasts; the timing part lasts as long again.
    pub length: Duration,
    /// How long the operations go on before the counting part.
    pub warm_up: Duration,
    /// Whether there is a timing part.
    pub latency: bool,
    /// Processes that serve the operations: their CPU time is counted.
    pub servers: Vec<libc::pid_t>,
}

/// What a slice gave.
#[derive(Debug, Default)]
pub struct Measured {
    /// Operations a second, all threads together.
    pub rate: f64,
    /// How long the first thread counted.
    pub counted: Duration,
    /// CPU time of this process while the first thread counted.
    pub client_cpu: Duration,
    /// CPU time of the servers in that time.
    pub server_cpu: Duration,
    /// Latencies.
    pub histogram: Histogram,
}

/// How often the counting part looks at the clock.
const CLOCK: Duration = Duration::from_micros(50);

/// What the threads of a slice share.
struct Together<'a> {
    slice: &'a Slice,
    barrier: Barrier,
    threads: usize,
    /// Threads that have counted, or failed.
    ready: AtomicUsize,
}

/// Runs a slice, with one thread for each lane.
pub fn run(lanes: &mut [Box<dyn Lane>], slice: &Slice) -> Result<Measured, Failure> {
    let together = Together {
        slice,
        barrier: Barrier::new(lanes.len()),
        threads: lanes.len(),
        ready: AtomicUsize::new(0),
    };
    let mut all = Measured::default();
    let mut shares: Vec<Result<Measured, Failure>> = std::thread::scope(|scope| {
        let together = &together;
        let mut lanes = lanes.iter_mut();
        let first = lanes.next();
        let threads: Vec<_> = lanes
            .map(|lane| scope.spawn(|| count(lane.as_mut(), together)))
            .collect();
        let first = first.map(|lane| count(lane.as_mut(), together));
        let others = threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(Failure::Other("a thread panicked".into())))
        });
        first.into_iter().chain(others).collect()
    });
    for (number, share) in shares.drain(..).enumerate() {
        let share = share?;
        all.rate += share.rate;
        if number == 0 {
            all.counted = share.counted;
            all.client_cpu = share.client_cpu;
            all.server_cpu = share.server_cpu;
        }
    }
    if let ([lane], true) = (&mut *lanes, slice.latency) {
        all.histogram = time(lane.as_mut(), slice.length)?;
    }
    for lane in lanes {
        lane.settle()?;
    }
    Ok(all)
}

/// One reading of the clocks.
struct Reading {
    at: Instant,
    operations: u64,
    client: Duration,
    server: Duration,
}

fn count(lane: &mut dyn Lane, together: &Together<'_>) -> Result<Measured, Failure> {
    together.barrier.wait();
    let outcome = count_on(lane, together);
    if outcome.is_err() {
        // The others do not wait for this one.
        together.ready.fetch_add(1, Ordering::Relaxed);
    }
    outcome
}

fn count_on(lane: &mut dyn Lane, together: &Together<'_>) -> Result<Measured, Failure> {
    let slice = together.slice;
    let began = Instant::now();
    let mut operations = 0;
    let mut batch = 1;
    let mut last = began;
    let mut first: Option<Reading> = None;
    let mut result = None;
    loop {
        for _ in 0..batch {
            lane.operate()?;
        }
        operations += batch;
        let now = Instant::now();
        match &first {
            None => {
                if now - last < CLOCK / 2 {
                    batch *= 2;
                }
                if now - began >= slice.warm_up {
                    first = Some(read(operations, slice));
                }
            }
            Some(first) if result.is_none() => {
                if now - first.at >= slice.length {
                    result = Some(between(first, &read(operations, slice)));
                    together.ready.fetch_add(1, Ordering::Relaxed);
                }
            }
            Some(_) => {}
        }
        if together.ready.load(Ordering::Relaxed) >= together.threads
            && let Some(result) = result
        {
            return Ok(result);
        }
        last = now;
    }
}

fn read(operations: u64, slice: &Slice) -> Reading {
    Reading {
        client: process_cpu(0),
        server: slice.servers.iter().copied().map(process_cpu).sum(),
        operations,
        at: Instant::now(),
    }
}

fn between(first: &Reading, last: &Reading) -> Measured {
    let counted = last.at - first.at;
    Measured {
        rate: (last.operations - first.operations) as f64 / counted.as_secs_f64(),
        counted,
        client_cpu: last.client.saturating_sub(first.client),
        server_cpu: last.server.saturating_sub(first.server),
        histogram: Histogram::default(),
    }
}

fn time(lane: &mut dyn Lane, length: Duration) -> Result<Histogram, Failure> {
    let mut histogram = Histogram::default();
    let begin = Instant::now();
    let mut last = begin;
    loop {
        lane.operate()?;
        let now = Instant::now();
        let took = now - last;
        last = now;
        histogram.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if now - begin >= length {
            return Ok(histogram);
        }
    }
}

/// CPU time, user and system, of a process (0: this one), all its threads together; zero where
/// there is no such process.
pub fn process_cpu(process: libc::pid_t) -> Duration {
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both output arguments live during the calls.
    let found = unsafe {
        libc::clock_getcpuclockid(process, &mut clock) == 0
            && libc::clock_gettime(clock, &mut time) == 0
    };
    if !found {
        return Duration::ZERO;
    }
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
