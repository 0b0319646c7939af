//! A lock that survives a fork.
//!
//! A forked child has one thread, and may find a lock held by a thread that it does not have. The
//! standard library's locks would then be held for ever; this one can be taken over, with what it
//! guards replaced unseen.

use casemate_transport::protocol::{AtomicU32, Ordering};
use casemate_transport::wait::{futex_wait, futex_wake};
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

const FREE: u32 = 0;
const HELD: u32 = 1;
const WANTED: u32 = 2;

/// Guards a value; see the module's text.
#[derive(Debug)]
pub struct ForkLock<T> {
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a guard, which one thread at a time has.
unsafe impl<T: Send> Sync for ForkLock<T> {}

impl<T> ForkLock<T> {
    /// A free lock.
    pub const fn new(value: T) -> Self {
        Self {
            word: AtomicU32::new(FREE),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits for the lock.
    pub fn lock(&self) -> Guard<'_, T> {
        if self
            .word
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            self.wait();
        }
        Guard { lock: self }
    }

    #[cold]
    fn wait(&self) {
        while self.word.swap(WANTED, Ordering::Acquire) != FREE {
            futex_wait(&self.word, WANTED, Some(Duration::from_secs(1)));
        }
    }

    /// In a forked child, before anything else uses the lock: if a thread of the parent held it, its
    /// value is replaced (and never dropped: it may be half changed).
    ///
    /// # Safety
    /// The calling thread must be the only one that can reach this lock.
    pub unsafe fn take_over(&self, fresh: impl FnOnce() -> T) {
        if self.word.load(Ordering::Relaxed) != FREE {
            // SAFETY: by the contract nobody else reaches the value; it is overwritten unread.
            unsafe { std::ptr::write(self.value.get(), fresh()) };
            self.word.store(FREE, Ordering::Release);
        }
    }
}

/// The right to use the value.
#[derive(Debug)]
pub struct Guard<'a, T> {
    lock: &'a ForkLock<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the lock is held as long as the guard lives.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held as long as the guard lives, and the guard is borrowed alone.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        if self.lock.word.swap(FREE, Ordering::Release) == WANTED {
            futex_wake(&self.lock.word, i32::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn increments_of_many_threads_are_all_there() {
        let lock = ForkLock::new(0u64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        *lock.lock() += 1;
                    }
                });
            }
        });
        assert_eq!(*lock.lock(), 80_000);
    }

    #[test]
    fn a_held_lock_is_taken_over_with_a_fresh_value() {
        let lock = ForkLock::new(String::from("half changed"));
        std::mem::forget(lock.lock());
        unsafe { lock.take_over(|| String::from("fresh")) };
        assert_eq!(*lock.lock(), "fresh");
    }

    #[test]
    fn a_free_lock_keeps_its_value() {
        let lock = ForkLock::new(7);
        unsafe { lock.take_over(|| 0) };
        assert_eq!(*lock.lock(), 7);
    }
}
