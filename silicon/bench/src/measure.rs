//! The loop: operations in one or more threads for a while, counted, timed, with their CPU time.
//!
//! A slice warms up (it wakes a worker that sleeps), then counts, with the clock read every 50 us or
//! so, and then, with one thread only, times each operation. Rates and CPU times come from the counting
//! part, latencies from the timing part. Threads run on without a pause from the warm-up until the first
//! of them has counted: the rate is that of what all of them did between two of its readings of the
//! clock. (A rate of each thread's own time would leave out turns of threads that share a CPU: such a
//! thread reads the clock only in its own turns.)

use crate::failure::Failure;
use crate::histogram::Histogram;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// How many operations each thread has done; a line for each.
    done: Vec<Count>,
    /// The first thread has counted, or one has failed.
    ended: AtomicBool,
}

#[repr(align(128))]
#[derive(Default)]
struct Count(AtomicU64);

impl Together<'_> {
    /// Operations of all threads, once each of them has done some.
    fn total(&self) -> Option<u64> {
        let counts = self.done.iter().map(|one| one.0.load(Ordering::Relaxed));
        counts.map(|count| (count > 0).then_some(count)).sum()
    }
}

/// Runs a slice, with one thread for each lane.
pub fn run(lanes: &mut [Box<dyn Lane>], slice: &Slice) -> Result<Measured, Failure> {
    let together = Together {
        slice,
        barrier: Barrier::new(lanes.len()),
        done: lanes.iter().map(|_| Count::default()).collect(),
        ended: AtomicBool::new(false),
    };
    let outcomes: Vec<Result<Option<Measured>, Failure>> = std::thread::scope(|scope| {
        let together = &together;
        let mut lanes = lanes.iter_mut().zip(&together.done);
        let first = lanes.next();
        let threads: Vec<_> = lanes
            .map(|(lane, done)| scope.spawn(|| count(lane.as_mut(), done, false, together)))
            .collect();
        let first = first.map(|(lane, done)| count(lane.as_mut(), done, true, together));
        let others = threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(Failure::Other("a thread panicked".into())))
        });
        first.into_iter().chain(others).collect()
    });
    let mut all = Measured::default();
    for outcome in outcomes {
        if let Some(measured) = outcome? {
            all = measured;
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

fn count(
    lane: &mut dyn Lane,
    done: &Count,
    first: bool,
    together: &Together<'_>,
) -> Result<Option<Measured>, Failure> {
    together.barrier.wait();
    let outcome = if first {
        count_all(lane, done, together).map(Some)
    } else {
        go_on(lane, done, together).map(|()| None)
    };
    // The others do not wait for one that has failed.
    if first || outcome.is_err() {
        together.ended.store(true, Ordering::Relaxed);
    }
    outcome
}

/// Operates, and tells how often, in batches of some `CLOCK`.
struct Batches<'a> {
    lane: &'a mut dyn Lane,
    done: &'a Count,
    operations: u64,
    batch: u64,
    last: Instant,
}

impl<'a> Batches<'a> {
    fn new(lane: &'a mut dyn Lane, done: &'a Count) -> Self {
        Self {
            lane,
            done,
            operations: 0,
            batch: 1,
            last: Instant::now(),
        }
    }

    fn next(&mut self) -> Result<Instant, Failure> {
        for _ in 0..self.batch {
            self.lane.operate()?;
        }
        self.operations += self.batch;
        self.done.0.store(self.operations, Ordering::Relaxed);
        let now = Instant::now();
        if now - self.last < CLOCK / 2 {
            self.batch *= 2;
        }
        self.last = now;
        Ok(now)
    }
}

/// Operates until the first thread has counted.
fn go_on(lane: &mut dyn Lane, done: &Count, together: &Together<'_>) -> Result<(), Failure> {
    let mut batches = Batches::new(lane, done);
    while !together.ended.load(Ordering::Relaxed) {
        batches.next()?;
    }
    Ok(())
}

/// Counts what all threads do between two moments of this one.
fn count_all(
    lane: &mut dyn Lane,
    done: &Count,
    together: &Together<'_>,
) -> Result<Measured, Failure> {
    let slice = together.slice;
    let mut batches = Batches::new(lane, done);
    let began = batches.last;
    let first = loop {
        let now = batches.next()?;
        if now - began >= slice.warm_up
            && let Some(total) = together.total()
        {
            break read(total, slice);
        }
        if together.ended.load(Ordering::Relaxed) {
            return Ok(Measured::default());
        }
    };
    loop {
        let now = batches.next()?;
        if now - first.at >= slice.length {
            let total = together.total().unwrap_or_default();
            return Ok(between(&first, &read(total, slice)));
        }
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
