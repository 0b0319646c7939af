//! Which worker takes which request, where several are awake.
//!
//! A client that waits for a long request sleeps, so that its CPU is free. A worker there serves it
//! best: one hands over to the other by a change of threads, where a wake-up on another CPU takes
//! longer than a P-256 signature. So a worker takes requests that were written on its own CPU first,
//! and leaves one request of each other CPU to the worker that is awake there. Nothing
//! depends on it: a client says on which CPU it is, and what is left too long anyone takes.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use casemate_transport::ring::Ring;

/// The CPUs on which a worker of the partition is awake: one bit for each number, modulo 64.
#[derive(Debug, Default)]
pub struct Places {
    awake: AtomicU64,
    /// Workers that serve long requests.
    busy: AtomicU32,
}

impl Places {
    /// A worker takes its place on this CPU.
    pub fn take(&self, cpu: u32) {
        self.awake.fetch_or(bit(cpu), Ordering::Relaxed);
    }

    /// It sleeps, or is on another CPU.
    pub fn leave(&self, cpu: u32) {
        self.awake.fetch_and(!bit(cpu), Ordering::Relaxed);
    }

    /// Those on which others than a worker on this CPU are awake.
    pub fn others(&self, cpu: u32) -> Others {
        Others(self.awake.load(Ordering::Relaxed) & !bit(cpu))
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
    /// Which of the `published` requests, one bit a slot, a worker on `cpu` takes: one of its CPU, if
    /// there is any, or else one that it does not leave to others; 0 for none.
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
        match own {
            0 => free.checked_ilog2().map_or(0, |highest| 1 << highest),
            _ => own & own.wrapping_neg(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_transport::layout::RING_BYTES;
    use casemate_transport::memory::SharedMemory;

    /// A ring whose slots were written on these CPUs; None: the client does not say.
    fn ring(cpus: &[Option<u32>]) -> Ring {
        let (memory, _) = SharedMemory::create(c"casemate-places", RING_BYTES, false).unwrap();
        let ring = Ring::new(memory).unwrap();
        for (slot, cpu) in (0..).zip(cpus) {
            let word = cpu.map_or(0, |cpu| cpu.wrapping_add(1));
            ring.written_on(slot).store(word, Ordering::Relaxed);
        }
        ring
    }

    fn others(awake: &[u32], cpu: u32) -> Others {
        let places = Places::default();
        awake.iter().for_each(|cpu| places.take(*cpu));
        places.others(cpu)
    }

    #[test]
    fn requests_of_the_workers_own_cpu_come_first() {
        let ring = ring(&[Some(1), Some(0), Some(0), None]);
        assert_eq!(others(&[0, 1], 0).choose(&ring, 0b1111, 0), 0b0010);
        assert_eq!(others(&[], 0).choose(&ring, 0b1100, 0), 0b0100);
    }

    #[test]
    fn one_request_is_left_to_each_other_worker_in_one_look() {
        let ring = ring(&[Some(1), Some(1), Some(2), Some(1)]);
        let mut left = others(&[0, 1], 0);
        assert_eq!(left.choose(&ring, 0b0001, 0), 0);
        assert_eq!(left.choose(&ring, 0b0010, 0), 0b0010);
        assert_eq!(others(&[0, 1], 0).choose(&ring, 0b1111, 0), 0b1000);
        assert_eq!(others(&[0], 0).choose(&ring, 0b0111, 0), 0b0100);
    }

    #[test]
    fn nothing_is_chosen_of_nothing_and_one_at_a_time_of_anything() {
        let ring = ring(&[Some(u32::MAX), Some(u32::MAX - 1), Some(63), Some(64)]);
        for awake in [0, 5, 63, 64, u32::MAX] {
            assert_eq!(others(&[awake], 7).choose(&ring, 0, 7), 0);
            for published in [1, 0b1111, 1 << 63, u64::MAX] {
                let chosen = others(&[awake], 7).choose(&ring, published, 7);
                assert!(chosen.count_ones() <= 1 && chosen & !published == 0);
            }
        }
    }

    #[test]
    fn who_has_left_gets_nothing() {
        let places = Places::default();
        places.take(1);
        places.leave(1);
        assert_eq!(places.others(0).choose(&ring(&[Some(1)]), 1, 0), 1);
    }
}
