//! Slots and their connections: one connection per process and partition, made when it is needed,
//! made again when the module has been restarted.

use crate::lock::ForkLock;
use crate::outcome::Outcome;
use crate::registry::{Partition, Places};
use casemate_transport::client::{ConnectError, Connection};
use casemate_transport::handshake::Refusal;
use cryptoki_sys::{
    CK_RV, CK_SLOT_ID, CKR_DEVICE_ERROR, CKR_DEVICE_REMOVED, CKR_SESSION_COUNT, CKR_SLOT_ID_INVALID,
};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Slots that a process can know in its life.
const SLOTS_MAX: usize = 256;
/// The first pause between two attempts to reconnect; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How long a lost connection is tried again, unless CASEMATE_RECONNECT_SECONDS says otherwise.
const RECONNECT: Duration = Duration::from_secs(5);

/// A connection, and what sessions remember about it.
#[derive(Debug)]
pub struct Link {
    /// The connection.
    pub connection: Connection,
    /// Changes when the login or the policy seen through this link changes: cached checks are stale.
    verdicts: AtomicU64,
}

impl Link {
    /// A number that changes whenever a cached check may no longer hold.
    pub fn verdict_epoch(&self) -> u64 {
        self.connection
            .epoch()
            .wrapping_add(self.verdicts.load(Ordering::Relaxed) << 40)
    }

    /// A login has come or gone.
    pub fn forget_verdicts(&self) {
        self.verdicts.fetch_add(1, Ordering::Relaxed);
    }
}

/// A partition as PKCS#11 sees it.
#[derive(Debug)]
pub struct Slot {
    /// Its number, for the life of the process.
    pub id: CK_SLOT_ID,
    /// The partition's name.
    pub name: String,
    socket: PathBuf,
    current: ForkLock<Current>,
    /// Whether a token was seen at the last look (0 no, 1 yes), for slot events.
    present: AtomicU32,
}

#[derive(Debug, Default)]
struct Current {
    link: Option<Arc<Link>>,
    /// When the last attempt to reconnect failed: who waited meanwhile does not try as long again.
    failed: Option<Instant>,
}

impl Slot {
    /// The connection there is, or a new one at the first attempt.
    pub fn connect(&self) -> Outcome<Arc<Link>> {
        self.connect_within(Duration::ZERO)
    }

    /// The connection there is, or a new one within the time for which a module may be restarting.
    pub fn reconnect(&self) -> Outcome<Arc<Link>> {
        self.connect_within(reconnect_limit())
    }

    fn connect_within(&self, limit: Duration) -> Outcome<Arc<Link>> {
        let begin = Instant::now();
        let mut current = self.current.lock();
        if let Some(link) = &current.link
            && link.connection.check().is_ok()
        {
            return Ok(Arc::clone(link));
        }
        current.link = None;
        let limit = match current.failed {
            Some(failed) if failed >= begin => Duration::ZERO,
            _ => limit,
        };
        let mut pause = FIRST_PAUSE;
        loop {
            match Connection::open(&self.socket) {
                Ok(connection) => {
                    let link = Arc::new(Link {
                        connection,
                        verdicts: AtomicU64::new(0),
                    });
                    current.link = Some(Arc::clone(&link));
                    current.failed = None;
                    return Ok(link);
                }
                Err(error) if begin.elapsed() + pause > limit || !may_pass(&error) => {
                    crate::log::say(format_args!(
                        "partition {} ({}): {error}",
                        self.name,
                        self.socket.display()
                    ));
                    current.failed = Some(Instant::now());
                    return Err(result_of(&error));
                }
                Err(_) => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The connection, if there is a living one; nothing is tried.
    pub fn existing(&self) -> Option<Arc<Link>> {
        let current = self.current.lock();
        current
            .link
            .as_ref()
            .filter(|link| link.connection.check().is_ok())
            .map(Arc::clone)
    }

    /// Whether a module listens there.
    pub fn is_present(&self) -> bool {
        self.existing().is_some() || UnixStream::connect(&self.socket).is_ok()
    }

    /// Looks whether the token has come or gone since the last look.
    pub fn presence_changed(&self) -> bool {
        let present = u32::from(self.is_present());
        self.present.swap(present, Ordering::Relaxed) != present
    }

    /// Ends the connection.
    pub fn disconnect(&self) {
        let mut current = self.current.lock();
        *current = Current::default();
    }

    /// In a forked child: the parent's connection is not ours.
    ///
    /// # Safety
    /// The calling thread must be the only one in the library.
    unsafe fn after_fork(&self) {
        // SAFETY: by this function's contract.
        unsafe { self.current.take_over(Current::default) };
        let mut current = self.current.lock();
        if let Some(link) = current.link.take() {
            link.connection.abandon();
        }
        current.failed = None;
    }
}

/// An error that a module which is just starting may give.
fn may_pass(error: &ConnectError) -> bool {
    matches!(
        error,
        ConnectError::Io(_) | ConnectError::Refused(Refusal::Resources)
    )
}

fn result_of(error: &ConnectError) -> CK_RV {
    match error {
        ConnectError::Io(_) => CKR_DEVICE_REMOVED,
        ConnectError::Refused(Refusal::Quota) => CKR_SESSION_COUNT,
        ConnectError::Refused(_) | ConnectError::Protocol(_) => CKR_DEVICE_ERROR,
    }
}

fn reconnect_limit() -> Duration {
    std::env::var("CASEMATE_RECONNECT_SECONDS")
        .ok()
        .and_then(|value| value.parse::<u32>().ok())
        .map_or(RECONNECT, |seconds| Duration::from_secs(seconds.into()))
}

/// The slots of this process: only ever more of them, so that reading takes no lock.
#[derive(Debug)]
pub struct Slots {
    table: [AtomicPtr<Slot>; SLOTS_MAX],
    count: AtomicU32,
    adding: ForkLock<()>,
}

impl Slots {
    /// No slots.
    pub const fn new() -> Self {
        Self {
            table: [const { AtomicPtr::new(std::ptr::null_mut()) }; SLOTS_MAX],
            count: AtomicU32::new(0),
            adding: ForkLock::new(()),
        }
    }

    /// The slots known so far, by number.
    pub fn iter(&self) -> impl Iterator<Item = &'static Slot> + '_ {
        let count = self.count.load(Ordering::Acquire) as usize;
        self.table.iter().take(count).filter_map(|entry| {
            // SAFETY: entries below the count are leaked boxes.
            unsafe { entry.load(Ordering::Acquire).as_ref() }
        })
    }

    /// The slot with this number.
    pub fn get(&self, id: CK_SLOT_ID) -> Outcome<&'static Slot> {
        let count = u64::from(self.count.load(Ordering::Acquire));
        usize::try_from(id)
            .ok()
            .filter(|_| id < count)
            .and_then(|index| self.table.get(index))
            // SAFETY: entries below the count are leaked boxes.
            .and_then(|entry| unsafe { entry.load(Ordering::Acquire).as_ref() })
            .ok_or(CKR_SLOT_ID_INVALID)
    }

    /// Looks for partitions and gives new ones the next numbers.
    pub fn scan(&self, places: &Places) {
        let _adding = self.adding.lock();
        for Partition { name, socket } in places.partitions() {
            if self.iter().any(|slot| slot.socket == socket) {
                continue;
            }
            let index = self.count.load(Ordering::Acquire);
            let Some(entry) = self.table.get(index as usize) else {
                crate::log::say(format_args!(
                    "more than {SLOTS_MAX} partitions: {name} left out"
                ));
                return;
            };
            let slot = Slot {
                id: index.into(),
                name,
                socket,
                current: ForkLock::new(Current::default()),
                present: AtomicU32::new(1),
            };
            entry.store(Box::into_raw(Box::new(slot)), Ordering::Release);
            self.count.store(index + 1, Ordering::Release);
        }
    }

    /// In a forked child: every connection is the parent's.
    ///
    /// # Safety
    /// The calling thread must be the only one in the library.
    pub unsafe fn after_fork(&self) {
        // SAFETY: by this function's contract.
        unsafe { self.adding.take_over(|| ()) };
        for slot in self.iter() {
            // SAFETY: by this function's contract.
            unsafe { slot.after_fork() };
        }
    }
}
