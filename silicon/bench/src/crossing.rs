//! How long a cache line takes from one CPU to another: what a round trip between processes costs at
//! least, a few times over. Virtual machines are moved: it differs from second to second.

use std::mem::{size_of, zeroed};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// Crossings there and back that are not counted, and that are.
const WARM_UP: u32 = 2_000;
const COUNTED: u32 = 20_000;

#[repr(align(128))]
struct Line(AtomicU32);

/// Nanoseconds for one crossing between the first two CPUs that this process may use; None if it may
/// use one only.
pub fn one_way() -> Option<f64> {
    let (here, there) = two_cpus()?;
    let line = Line(AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(there);
            for round in 0..WARM_UP + COUNTED {
                await_value(&line, 2 * round + 1);
                line.0.store(2 * round + 2, Ordering::Release);
            }
        });
        let first = scope.spawn(|| {
            pin(here);
            let mut begin = Instant::now();
            for round in 0..WARM_UP + COUNTED {
                if round == WARM_UP {
                    begin = Instant::now();
                }
                line.0.store(2 * round + 1, Ordering::Release);
                await_value(&line, 2 * round + 2);
            }
            begin.elapsed()
        });
        let took = first.join().ok()?;
        Some(took.as_nanos() as f64 / f64::from(COUNTED) / 2.0)
    })
}

fn await_value(line: &Line, value: u32) {
    while line.0.load(Ordering::Acquire) != value {
        std::hint::spin_loop();
    }
}

fn two_cpus() -> Option<(usize, usize)> {
    // SAFETY: a zeroed set is a valid output argument, and its size is passed.
    let set = unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        set
    };
    // SAFETY: the numbers are inside the set.
    let mut cpus =
        (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) });
    Some((cpus.next()?, cpus.next()?))
}

fn pin(cpu: usize) {
    // SAFETY: the number is inside the set, which lives during the call, about the calling thread.
    unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crossing_takes_some_time_where_there_are_two_cpus() {
        match one_way() {
            Some(nanoseconds) => assert!(nanoseconds > 1.0),
            None => assert!(two_cpus().is_none()),
        }
    }
}
