//! The words that both sides share, and the rules under which nobody sleeps through a message.
//!
//! A request: the client writes the request line and the payload of a slot that it knows to be
//! free, then sets the slot's bit in `pending` (release), then reads `awake`; if no worker is awake
//! it rings the connection's eventfd. A worker takes all bits at once (acquire), so two workers
//! never get the same request. A worker that wants to sleep first leaves `awake`, then looks at
//! `pending` once more, then waits for the eventfd. Both sides write their own word before they
//! read the other's, in one total order (SeqCst), so at least one of them sees the other.
//!
//! An answer: the worker writes the response line, then `answered` = the request's sequence number
//! (release), then reads `waiting`; if the client sleeps it is woken. The client sets `waiting`
//! before it looks at `answered` for the last time. The same argument holds.
//!
//! The module believes none of these words: a client that writes garbage into its own ring gets
//! garbage answers or none. Only `awake` and the rest of the status page are read-only for it.

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Client: publishes the request in `slot`. True: no worker is awake, ring the bell.
pub fn submit(pending: &AtomicU64, awake: &AtomicU32, slot: u32) -> bool {
    pending.fetch_or(1u64 << (slot & 63), Ordering::Release);
    fence(Ordering::SeqCst);
    awake.load(Ordering::Relaxed) == 0
}

/// Client: whether the request in `slot` still waits for a worker.
pub fn is_pending(pending: &AtomicU64, slot: u32) -> bool {
    pending.load(Ordering::Relaxed) & (1u64 << (slot & 63)) != 0
}

/// Worker: takes every published request of a ring, one bit a slot.
pub fn take(pending: &AtomicU64) -> u64 {
    if pending.load(Ordering::Relaxed) == 0 {
        return 0;
    }
    pending.swap(0, Ordering::AcqRel)
}

/// Worker: whether a ring has requests, before it sleeps. Comes after `leave`.
pub fn has_requests(pending: &AtomicU64) -> bool {
    pending.load(Ordering::Relaxed) != 0
}

/// Worker: is about to sleep.
pub fn leave(awake: &AtomicU32) {
    awake.fetch_sub(1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
}

/// Worker: is back.
pub fn enter(awake: &AtomicU32) {
    awake.fetch_add(1, Ordering::Relaxed);
}

/// Worker: publishes the answer with this sequence number. True: the client sleeps, wake it.
pub fn answer(answered: &AtomicU32, waiting: &AtomicU32, sequence: u32) -> bool {
    answered.store(sequence, Ordering::Release);
    fence(Ordering::SeqCst);
    waiting.load(Ordering::Relaxed) != 0
}

/// Client: whether the answer with this sequence number is there.
pub fn is_answered(answered: &AtomicU32, sequence: u32) -> bool {
    answered.load(Ordering::Acquire) == sequence
}

/// Client: says that it will sleep. True: it still must; false: the answer has come meanwhile.
pub fn prepare_sleep(answered: &AtomicU32, waiting: &AtomicU32, sequence: u32) -> bool {
    waiting.store(1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    answered.load(Ordering::Acquire) != sequence
}

/// Client: is awake again.
pub fn end_sleep(waiting: &AtomicU32) {
    waiting.store(0, Ordering::Relaxed);
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    /// A futex or an eventfd: a wake-up that comes before the sleep is not lost.
    #[derive(Default)]
    struct Bell {
        rung: Mutex<bool>,
        changed: Condvar,
    }

    impl Bell {
        fn ring(&self) {
            *self.rung.lock().unwrap() = true;
            self.changed.notify_all();
        }

        fn wait(&self) {
            let mut rung = self.rung.lock().unwrap();
            while !*rung {
                rung = self.changed.wait(rung).unwrap();
            }
            *rung = false;
        }
    }

    /// loom reports a deadlock if both sides can end up asleep.
    #[test]
    fn a_request_and_its_answer_are_never_slept_through() {
        loom::model(|| {
            let pending = Arc::new(AtomicU64::new(0));
            let awake = Arc::new(AtomicU32::new(1));
            let answered = Arc::new(AtomicU32::new(0));
            let waiting = Arc::new(AtomicU32::new(0));
            let payload = Arc::new(loom::cell::UnsafeCell::new(0u32));
            let worker_bell = Arc::new(Bell::default());
            let client_bell = Arc::new(Bell::default());

            let worker = {
                let (pending, awake, answered, waiting, payload, worker_bell, client_bell) = (
                    pending.clone(),
                    awake.clone(),
                    answered.clone(),
                    waiting.clone(),
                    payload.clone(),
                    worker_bell.clone(),
                    client_bell.clone(),
                );
                thread::spawn(move || {
                    while take(&pending) == 0 {
                        leave(&awake);
                        if !has_requests(&pending) {
                            worker_bell.wait();
                        }
                        enter(&awake);
                    }
                    payload.with_mut(|p| unsafe { *p += 1 });
                    if answer(&answered, &waiting, 7) {
                        client_bell.ring();
                    }
                })
            };

            payload.with_mut(|p| unsafe { *p = 41 });
            if submit(&pending, &awake, 3) {
                worker_bell.ring();
            }
            if !is_answered(&answered, 7) && prepare_sleep(&answered, &waiting, 7) {
                client_bell.wait();
            }
            end_sleep(&waiting);
            assert!(is_answered(&answered, 7));
            payload.with(|p| assert_eq!(unsafe { *p }, 42));
            worker.join().unwrap();
        });
    }

    #[test]
    fn two_workers_never_take_the_same_request() {
        loom::model(|| {
            let pending = Arc::new(AtomicU64::new(0));
            let awake = Arc::new(AtomicU32::new(2));
            submit(&pending, &awake, 0);
            let other = {
                let pending = pending.clone();
                thread::spawn(move || take(&pending))
            };
            submit(&pending, &awake, 1);
            let mine = take(&pending);
            let theirs = other.join().unwrap();
            let left = take(&pending);
            assert_eq!(mine & theirs, 0);
            assert_eq!(mine | theirs | left, 3);
            assert_eq!((mine | theirs) & left, 0);
        });
    }
}
