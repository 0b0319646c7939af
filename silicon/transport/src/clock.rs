//! A clock that is cheap enough for every operation, and not exact enough for anything else.
//!
//! Where the processor counts at a constant rate its counter is read (10 ns where a system clock
//! takes 23); its rate is measured once. It serves budgets, estimates and histograms: a reading may
//! be off by a thousandth, and differences never go below zero.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A moment, in ticks of this machine since some beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(u64);

/// For how long the rate is measured.
const MEASURED: Duration = Duration::from_micros(50);

impl Moment {
    /// Now.
    #[inline]
    pub fn now() -> Self {
        Self(ticks())
    }

    /// Nanoseconds from an earlier moment to this one; 0 if it was not earlier.
    #[inline]
    pub fn since(self, earlier: Moment) -> u64 {
        let ticks = self.0.saturating_sub(earlier.0);
        (ticks as f64 * nanoseconds_of_a_tick()) as u64
    }

    /// Nanoseconds from this moment until now.
    #[inline]
    pub fn elapsed(self) -> u64 {
        Self::now().since(self)
    }
}

#[inline]
fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        static BEGINNING: OnceLock<Instant> = OnceLock::new();
        u64::try_from(BEGINNING.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[inline]
fn nanoseconds_of_a_tick() -> f64 {
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| {
        let (begin, first) = (Instant::now(), ticks());
        while begin.elapsed() < MEASURED {
            std::hint::spin_loop();
        }
        let (taken, ticks) = (begin.elapsed(), ticks().saturating_sub(first));
        taken.as_nanos() as f64 / ticks.max(1) as f64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_system_clock() {
        let (moment, begin) = (Moment::now(), Instant::now());
        std::thread::sleep(Duration::from_millis(50));
        let (own, system) = (moment.elapsed() as f64, begin.elapsed().as_nanos() as f64);
        assert!((0.8..1.25).contains(&(own / system)), "{own} for {system}");
        assert_eq!(moment.since(Moment::now()), 0);
    }
}
