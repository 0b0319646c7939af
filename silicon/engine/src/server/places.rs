//! Which worker takes which request, where several are awake.
//!
//! A client that waits for a long request sleeps, so that its CPU is free. A worker there serves it
//! best: one hands over to the other by a change of threads, where a wake-up on another CPU takes
//! longer than a P-256 signature. So a worker takes requests that were written on its own CPU first,
//! and leaves one request of each other CPU to the worker that looks for requests there. Nothing
//! depends on it: a client says on which CPU it is, and what is left too long anyone takes.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use casemate_transport::ring::Ring;

/// The CPUs on which a worker of the partition looks for requests: one bit for each number, modulo 64.
#[derive(Debug, Default)]
pub struct Places {
    looking: AtomicU64,
    /// Workers that serve long requests.
    busy: AtomicU32,
}

impl Places {
    /// A worker on this CPU begins to look for requests.
    pub fn look(&self, cpu: u32) {
        self.looking.fetch_or(bit(cpu), Ordering::Relaxed);
    }

    /// A worker on this CPU has other things to do.
    pub fn leave(&self, cpu: u32) {
        self.looking.fetch_and(!bit(cpu), Ordering::Relaxed);
    }

    /// Those on which others than a worker on this CPU look for requests.
    pub fn others(&self, cpu: u32) -> Others {
        Others(self.looking.load(Ordering::Relaxed) & !bit(cpu))
    }

    /// A worker begins with a long request. True: others are at some as well.
    pub fn begin(&self) -> bool {
        self.busy.fetch_add(1, Ordering::Relaxed) != 0
    }

    /// It has ended.
    pub fn end(&self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

fn bit(cpu: u32) -> u64 {
    1 << (cpu & 63)
}

/// CPUs of other workers that nothing has been left to yet, in one look over the rings.
#[derive(Clone, Copy, Debug)]
pub struct Others(u64);

impl Others {
    /// Those of the `published` requests, one bit a slot, that a worker on `cpu` takes: those of its
    /// CPU, if there are any, or else those that it does not leave to others.
    pub fn choose(&mut self, ring: &Ring, published: u64, cpu: u32) -> u64 {
        let (mut own, mut free) = (0, 0);
        let mut rest = published;
        while rest != 0 {
            let slot = rest.trailing_zeros();
            let request = rest & rest.wrapping_neg();
            rest ^= request;
            match ring.written_on(slot).load(Ordering::Relaxed).checked_sub(1) {
                Some(written) if written == cpu => own |= request,
                Some(written) if self.0 & bit(written) != 0 => self.0 &= !bit(written),
                _ => free |= request,
            }
        }
        // From two ends, so that a client who is served from another CPU is so each time, and moves there.
        if own != 0 {
            own & own.wrapping_neg()
        } else {
            1u64.checked_shl(63u32.wrapping_sub(free.leading_zeros()))
                .map_or(0, |highest| free & highest)
        }
    }
}
