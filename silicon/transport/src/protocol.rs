//! The words that both sides share, and the rules under which nobody sleeps through a message.
//!
//! A request: the client writes the payload and the request line of a slot that it knows to be
//! free, the line's sequence number last (release), then sets the slot's bit in `pending` (release),
//! then reads `awake`; if the partition's first worker is not awake it rings the connection's
//! eventfd. Several requests may be published at once, by all their bits. A worker takes some of the
//! bits, or all (acquire), and looks at those lines. The first worker, when it wants to sleep, first
//! leaves `awake`, then looks at `pending` once more, then waits for the eventfd. Both sides write
//! their own word before they read the other's, in one total order (SeqCst), so at least one of them
//! sees the other.
//!
//! What a bit says is only that there is a line to look at. A request is whose worker claims it: its
//! sequence number is not the one that the module took from this slot before (`Intake`), and the
//! claim is one exchange of a word of the module's own, so two workers never get the same request.
//! So a worker may also look at a line before there is a bit: where short requests follow each other
//! in one slot, it learns of the next one by one crossing of a cache line instead of two, and takes
//! the bit away afterwards.
//!
//! An answer: the worker writes the response line, then `answered` = the request's sequence number
//! (release), then reads `waiting`; if the client sleeps it is woken. The client sets `waiting`
//! before it looks at `answered` for the last time. The same argument holds.
//!
//! Helpers are workers that nobody relies on: they come when they are called, take what is pending
//! and sleep again on `help`. The first worker calls them by a new value of the word and a wake-up:
//! a helper that reads the word before it looks for requests, and sleeps only while the word stands,
//! misses no such call. A client may only wake the word, which it cannot write: such a call may be
//! missed, and then the first worker serves the request.
//!
//! The module believes none of these words: a client that writes garbage into its own ring gets
//! garbage answers or none. Only `awake`, `help` and the rest of the status page are read-only for
//! it.

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Client: publishes the request in `slot`. True: the first worker sleeps, ring the bell.
pub fn submit(pending: &AtomicU64, awake: &AtomicU32, slot: u32) -> bool {
    publish(pending, awake, 1u64 << (slot & 63))
}

/// Client: publishes the requests in the slots of these bits, all at once. True: the first worker
/// sleeps, ring the bell.
pub fn publish(pending: &AtomicU64, awake: &AtomicU32, bits: u64) -> bool {
    pending.fetch_or(bits, Ordering::Release);
    fence(Ordering::SeqCst);
    awake.load(Ordering::Relaxed) == 0
}

/// Module: which request it took from a slot last, and whether a worker has it in hand. In the
/// module's own memory.
#[derive(Debug)]
pub struct Intake(AtomicU64);

impl Intake {
    const IN_HAND: u64 = 1 << 32;

    /// Nothing was taken: sequence numbers begin at 1.
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether the slot's line offers a request: a hint, since another worker may claim it.
    pub fn is_offered(&self, sequence: &AtomicU32) -> bool {
        let taken = self.0.load(Ordering::Relaxed);
        taken & Self::IN_HAND == 0 && taken != u64::from(sequence.load(Ordering::Relaxed))
    }

    /// Takes the request in the slot's line. False: there is none that nobody has taken. What the
    /// client writes while a worker has the one before is not looked at.
    pub fn claim(&self, sequence: &AtomicU32) -> bool {
        // In this order: if it still stands afterwards, what the line offers comes after it.
        let taken = self.0.load(Ordering::Acquire);
        let offered = u64::from(sequence.load(Ordering::Acquire));
        taken & Self::IN_HAND == 0
            && taken != offered
            && self
                .0
                .compare_exchange(
                    taken,
                    offered | Self::IN_HAND,
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                )
                .is_ok()
    }

    /// Before the answer: the slot may have its next request.
    pub fn release(&self) {
        // Nobody else writes the word meanwhile.
        let taken = self.0.load(Ordering::Relaxed);
        self.0.store(taken & !Self::IN_HAND, Ordering::Release);
    }

    /// Whether a worker has a request of this slot.
    pub fn is_in_hand(&self) -> bool {
        self.0.load(Ordering::Relaxed) & Self::IN_HAND != 0
    }
}

impl Default for Intake {
    fn default() -> Self {
        Self::new()
    }
}

/// Client: whether the request in `slot` still waits for a worker.
pub fn is_pending(pending: &AtomicU64, slot: u32) -> bool {
    pending.load(Ordering::Relaxed) & (1u64 << (slot & 63)) != 0
}

/// Worker: takes those of the published bits that `choose` picks, one a slot. Their requests are
/// still to be claimed.
pub fn take(pending: &AtomicU64, choose: impl FnOnce(u64) -> u64) -> u64 {
    let published = pending.load(Ordering::Relaxed);
    if published == 0 {
        return 0;
    }
    let wanted = choose(published);
    pending.fetch_and(!wanted, Ordering::AcqRel) & wanted
}

/// Worker: whether a ring has requests. The first worker looks after `leave`, before it sleeps.
pub fn has_requests(pending: &AtomicU64) -> bool {
    pending.load(Ordering::Relaxed) != 0
}

/// First worker: is about to sleep.
pub fn leave(awake: &AtomicU32) {
    awake.fetch_sub(1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
}

/// First worker: is back.
pub fn enter(awake: &AtomicU32) {
    awake.fetch_add(1, Ordering::Relaxed);
}

/// Module: calls a helper. The caller then wakes the word.
pub fn call_help(help: &AtomicU32) {
    help.fetch_add(1, Ordering::Release);
}

/// Helper: what it sleeps on, read before it looks for requests.
pub fn before_help(help: &AtomicU32) -> u32 {
    help.load(Ordering::Acquire)
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

/// Client: says that it will sleep. True: it still must; false: the answer has come
/// meanwhile.
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

    /// As `loom::model`, with so many switches at the most away from a thread that could go on: all of
    /// a longer model's runs would take hours.
    fn within_switches(most: usize, model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(most);
        builder.check(model);
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
                    while take(&pending, |all| all) == 0 {
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
                thread::spawn(move || take(&pending, |all| all))
            };
            submit(&pending, &awake, 1);
            let mine = take(&pending, |all| all);
            let theirs = other.join().unwrap();
            let left = take(&pending, |all| all);
            assert_eq!(mine & theirs, 0);
            assert_eq!(mine | theirs | left, 3);
            assert_eq!((mine | theirs) & left, 0);
        });
    }

    /// Two requests one after the other in one slot, which a worker finds by their bit or by their
    /// line: none is slept through, and none is served twice.
    #[test]
    fn a_request_is_found_by_its_line_or_by_its_bit() {
        within_switches(4, || {
            let pending = Arc::new(AtomicU64::new(0));
            let awake = Arc::new(AtomicU32::new(1));
            let sequence = Arc::new(AtomicU32::new(0));
            let answered = Arc::new(AtomicU32::new(0));
            let payload = Arc::new(loom::cell::UnsafeCell::new(0u32));
            let worker_bell = Arc::new(Bell::default());
            let client_bell = Arc::new(Bell::default());

            let worker = {
                let (pending, awake, sequence, answered, payload, worker_bell, client_bell) = (
                    pending.clone(),
                    awake.clone(),
                    sequence.clone(),
                    answered.clone(),
                    payload.clone(),
                    worker_bell.clone(),
                    client_bell.clone(),
                );
                thread::spawn(move || {
                    let intake = Intake::new();
                    let mut served = 0;
                    while served < 2 {
                        let found = intake.is_offered(&sequence) || take(&pending, |all| all) != 0;
                        if found {
                            if intake.claim(&sequence) {
                                served += 1;
                                payload.with_mut(|p| unsafe { *p += 1 });
                                intake.release();
                                answered.store(served, Ordering::Release);
                                client_bell.ring();
                            }
                            continue;
                        }
                        leave(&awake);
                        if !has_requests(&pending) {
                            worker_bell.wait();
                        }
                        enter(&awake);
                    }
                })
            };

            for number in 1..=2 {
                payload.with_mut(|p| unsafe { *p += 10 });
                sequence.store(number, Ordering::Release);
                if submit(&pending, &awake, 0) {
                    worker_bell.ring();
                }
                while !is_answered(&answered, number) {
                    client_bell.wait();
                }
                payload.with(|p| assert_eq!(unsafe { *p }, 11 * number));
            }
            worker.join().unwrap();
        });
    }

    /// Two workers look at one line while its client writes one request and then the next: each
    /// request is claimed once.
    #[test]
    fn two_workers_claim_a_request_once() {
        within_switches(6, || {
            let sequence = Arc::new(AtomicU32::new(1));
            let intake = Arc::new(Intake::new());
            let answered = Arc::new(AtomicU32::new(0));
            let served = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
            let serve = {
                let (sequence, intake, answered, served) = (
                    sequence.clone(),
                    intake.clone(),
                    answered.clone(),
                    served.clone(),
                );
                move || {
                    if intake.claim(&sequence) {
                        let number = sequence.load(Ordering::Relaxed);
                        served[number as usize - 1].fetch_add(1, Ordering::Relaxed);
                        intake.release();
                        answered.store(number, Ordering::Release);
                    }
                }
            };
            let twice = serve.clone();
            let workers = [
                thread::spawn(serve.clone()),
                thread::spawn(move || {
                    twice();
                    twice();
                }),
            ];
            let followed = is_answered(&answered, 1);
            if followed {
                sequence.store(2, Ordering::Release);
            }
            for worker in workers {
                worker.join().unwrap();
            }
            serve();
            assert_eq!(served[0].load(Ordering::Relaxed), 1);
            assert_eq!(served[1].load(Ordering::Relaxed), u32::from(followed));
        });
    }

    /// Two requests published at once, and a first worker that cannot answer the first one before
    /// somebody else has answered the second: it calls, and the helper comes.
    #[test]
    fn a_batch_is_shared_with_a_helper_that_is_called() {
        loom::model(|| {
            let pending = Arc::new(AtomicU64::new(0));
            let awake = Arc::new(AtomicU32::new(1));
            let help = Arc::new(AtomicU32::new(0));
            let second = Arc::new(Bell::default());
            let called = Arc::new((Mutex::new(()), Condvar::new()));

            let helper = {
                let (pending, help, second, called) = (
                    pending.clone(),
                    help.clone(),
                    second.clone(),
                    called.clone(),
                );
                thread::spawn(move || {
                    loop {
                        let seen = before_help(&help);
                        if take(&pending, lowest) != 0 {
                            second.ring();
                            return;
                        }
                        // A futex: the word is compared and the sleep begun in one step.
                        let guard = called.0.lock().unwrap();
                        if help.load(Ordering::Relaxed) == seen {
                            drop(called.1.wait(guard).unwrap());
                        }
                    }
                })
            };

            publish(&pending, &awake, 0b11);
            let mut mine = 0;
            while mine == 0 {
                mine = take(&pending, lowest);
                if mine == 0 {
                    // The helper may have both only one after the other; here it takes one.
                    thread::yield_now();
                }
            }
            if has_requests(&pending) {
                call_help(&help);
                let _guard = called.0.lock().unwrap();
                called.1.notify_one();
            }
            second.wait();
            helper.join().unwrap();
            assert!(!has_requests(&pending));
        });
    }

    /// A client that sleeps is woken only after another request has been served, and still wakes.
    #[test]
    fn a_wake_up_that_is_put_off_is_not_lost() {
        loom::model(|| {
            let pending = Arc::new(AtomicU64::new(0));
            let awake = Arc::new(AtomicU32::new(1));
            let answered = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
            let waiting = Arc::new(AtomicU32::new(0));
            let client_bell = Arc::new(Bell::default());
            publish(&pending, &awake, 0b11);

            let worker = {
                let (pending, answered, waiting, client_bell) = (
                    pending.clone(),
                    answered.clone(),
                    waiting.clone(),
                    client_bell.clone(),
                );
                thread::spawn(move || {
                    let mut sleeper = false;
                    for slot in 0..2 {
                        assert_eq!(take(&pending, lowest), 1 << slot);
                        let nobody = AtomicU32::new(0);
                        let word = if slot == 0 { &*waiting } else { &nobody };
                        sleeper |= answer(&answered[slot], word, 1);
                    }
                    if sleeper {
                        client_bell.ring();
                    }
                })
            };

            if !is_answered(&answered[0], 1) && prepare_sleep(&answered[0], &waiting, 1) {
                client_bell.wait();
            }
            end_sleep(&waiting);
            assert!(is_answered(&answered[0], 1));
            worker.join().unwrap();
        });
    }

    fn lowest(published: u64) -> u64 {
        published & published.wrapping_neg()
    }

    /// A batch rings once, and both its answers are there when its last one is waited for.
    #[test]
    fn a_batch_is_never_slept_through() {
        loom::model(|| {
            let pending = Arc::new(AtomicU64::new(0));
            let awake = Arc::new(AtomicU32::new(1));
            let answered = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
            let waiting = Arc::new(AtomicU32::new(0));
            let worker_bell = Arc::new(Bell::default());
            let client_bell = Arc::new(Bell::default());

            let worker = {
                let (pending, awake, answered, waiting, worker_bell, client_bell) = (
                    pending.clone(),
                    awake.clone(),
                    answered.clone(),
                    waiting.clone(),
                    worker_bell.clone(),
                    client_bell.clone(),
                );
                thread::spawn(move || {
                    let mut left = 2;
                    while left > 0 {
                        let taken = take(&pending, lowest);
                        if taken == 0 {
                            leave(&awake);
                            if !has_requests(&pending) {
                                worker_bell.wait();
                            }
                            enter(&awake);
                            continue;
                        }
                        let slot = taken.trailing_zeros() as usize;
                        let nobody = AtomicU32::new(0);
                        let sleeper = if slot == 1 { &*waiting } else { &nobody };
                        if answer(&answered[slot], sleeper, 1) {
                            client_bell.ring();
                        }
                        left -= 1;
                    }
                })
            };

            if publish(&pending, &awake, 0b11) {
                worker_bell.ring();
            }
            if prepare_sleep(&answered[1], &waiting, 1) {
                client_bell.wait();
            }
            end_sleep(&waiting);
            assert!(is_answered(&answered[0], 1) && is_answered(&answered[1], 1));
            worker.join().unwrap();
        });
    }
}
