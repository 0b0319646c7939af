//! Helpers give way while partitions compete for the CPUs.
//!
//! While one partition works its helpers have the weight of its first worker: the scheduler spreads
//! weight over the CPUs, and would bring the clients of both to the CPU of a lighter one. While
//! several work, each has its first worker's weight, and helpers a twentieth. So a helper is
//!
//! - *whole* from its start; *demoted* as soon as a second partition works, even in the midst of a
//!   long request;
//! - *replaced* when it is demoted and nobody has competed for `CALM`: it ends, and the first worker
//!   starts another one when it wants help. A thread without privileges cannot get its weight back.
//!
//! A partition works while its first worker is awake.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::pool::be_nice;

/// Steps by which demoted helpers are nicer than the first worker: a twentieth of its weight.
const DEMOTION: i32 = 13;
/// After so long without competition it is over.
const CALM: Duration = Duration::from_millis(100);

/// Who works, of all partitions of a module.
#[derive(Debug)]
pub struct Competition {
    working: AtomicU32,
    /// 1 if `helpers` may have some, so that nobody needs the lock to see that it has none.
    whole: AtomicU32,
    /// Those that are whole.
    helpers: Mutex<Vec<Arc<Helper>>>,
    beginning: Instant,
    /// When partitions competed for the last time, in milliseconds since the beginning; 0: never.
    last: AtomicU64,
}

/// A helper's standing.
#[derive(Debug)]
pub struct Helper {
    thread: AtomicI32,
    /// Its partition's nice value.
    nice: i32,
    demoted: AtomicBool,
}

impl Helper {
    /// A helper of a partition with this nice value.
    pub fn new(nice: i32) -> Arc<Self> {
        Arc::new(Self {
            thread: AtomicI32::new(0),
            nice,
            demoted: AtomicBool::new(false),
        })
    }

    /// Whether it has been demoted.
    pub fn is_demoted(&self) -> bool {
        self.demoted.load(Ordering::Relaxed)
    }

    fn demote(&self) {
        be_nice(
            self.thread.load(Ordering::Relaxed),
            (self.nice + DEMOTION).min(19),
        );
        self.demoted.store(true, Ordering::Relaxed);
    }
}

impl Default for Competition {
    fn default() -> Self {
        Self {
            working: AtomicU32::new(0),
            whole: AtomicU32::new(0),
            helpers: Mutex::default(),
            beginning: Instant::now(),
            last: AtomicU64::new(0),
        }
    }
}

impl Competition {
    /// A partition begins to work.
    pub fn enter(&self) {
        if self.working.fetch_add(1, Ordering::SeqCst) > 0 {
            self.compete();
        }
    }

    /// It has ended.
    pub fn leave(&self) {
        if self.working.fetch_sub(1, Ordering::SeqCst) > 1 {
            self.note();
        }
    }

    /// Partitions that work.
    pub fn working(&self) -> u32 {
        self.working.load(Ordering::Relaxed)
    }

    /// Whether several partitions work.
    pub fn is_on(&self) -> bool {
        self.working() > 1
    }

    /// Whether nobody has competed for a while.
    pub fn is_calm(&self) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        !self.is_on()
            && (last == 0 || self.milliseconds().saturating_sub(last) > CALM.as_millis() as u64)
    }

    /// A helper starts; its own thread calls.
    pub fn join(&self, helper: &Arc<Helper>) {
        // SAFETY: a plain system call about the calling thread.
        helper
            .thread
            .store(unsafe { libc::gettid() }, Ordering::Relaxed);
        let mut helpers = self.helpers();
        helpers.push(helper.clone());
        self.whole.store(1, Ordering::SeqCst);
        drop(helpers);
        if self.working.load(Ordering::SeqCst) > 1 {
            self.compete();
        }
    }

    /// A helper ends: its thread's number may soon be another one's.
    pub fn part(&self, helper: &Arc<Helper>) {
        self.helpers().retain(|one| !Arc::ptr_eq(one, helper));
    }

    fn compete(&self) {
        self.note();
        if self.whole.swap(0, Ordering::SeqCst) != 0 {
            self.helpers().drain(..).for_each(|helper| helper.demote());
        }
    }

    fn note(&self) {
        self.last.store(self.milliseconds(), Ordering::Relaxed);
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.beginning.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn helpers(&self) -> MutexGuard<'_, Vec<Arc<Helper>>> {
        self.helpers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nice value of the calling thread, as the kernel gives it.
    fn nice() -> i32 {
        // SAFETY: about the calling thread. The kernel's own call gives 20 minus the nice value.
        let raw = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) };
        20 - i32::try_from(raw).unwrap()
    }

    /// Each test thread is a thread of its own: its nice value goes with it.
    fn helper_of(competition: &Competition) -> Arc<Helper> {
        let helper = Helper::new(nice());
        competition.join(&helper);
        helper
    }

    #[test]
    fn a_second_partition_demotes_helpers() {
        let competition = Competition::default();
        let before = nice();
        let helper = helper_of(&competition);
        competition.enter();
        assert!(!helper.is_demoted() && competition.is_calm());
        competition.enter();
        assert!(helper.is_demoted() && !competition.is_calm());
        assert_eq!(nice(), (before + DEMOTION).min(19));
        competition.leave();
        assert!(!competition.is_calm());
        std::thread::sleep(CALM + Duration::from_millis(20));
        assert!(competition.is_calm());
    }

    #[test]
    fn who_comes_while_partitions_compete_is_demoted_at_once() {
        let competition = Competition::default();
        competition.enter();
        competition.enter();
        assert!(helper_of(&competition).is_demoted());
    }

    #[test]
    fn who_has_parted_is_left_alone() {
        let competition = Competition::default();
        let helper = helper_of(&competition);
        competition.part(&helper);
        competition.enter();
        competition.enter();
        assert!(!helper.is_demoted());
    }
}
