//! The queue of control operations: what silicon asks the firmware to decide and to store.
//!
//! A worker that meets an operation with durable effects does everything but make it visible, puts a
//! `Change` here and goes on with other work. The firmware (Python) takes changes in batches,
//! decides, writes their records in one transaction, and completes or refuses each. Only then does
//! the change become visible and the client hears of it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cryptoki_sys::{CK_RV, CKR_DEVICE_ERROR};

use crate::failure::Failure;
use crate::partition::Partition;

/// What a record is. Numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum RecordKind {
    /// The partition's masking secret, under the module's sealing secret.
    Secret = 0,
    /// A token object.
    Object = 1,
    /// PIN verifiers and failure counts.
    Roles = 2,
    /// The authenticated set of all other records of the partition.
    Root = 3,
    /// The partition's identity key.
    Identity = 4,
}

impl RecordKind {
    /// The kind with this number, or None.
    pub fn from_code(code: u64) -> Option<Self> {
        [
            Self::Secret,
            Self::Object,
            Self::Roles,
            Self::Root,
            Self::Identity,
        ]
        .into_iter()
        .find(|kind| *kind as u64 == code)
    }
}

/// Which record: unique in its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey {
    /// What it is.
    pub kind: RecordKind,
    /// The object's handle, or 0.
    pub id: u64,
}

/// A record to write, or to delete.
#[derive(Clone, Debug)]
pub struct Record {
    /// Which.
    pub key: RecordKey,
    /// Counts the record's changes.
    pub generation: u64,
    /// The masked bytes; None deletes the record.
    pub blob: Option<Vec<u8>>,
}

/// What happens when the firmware has decided.
type Continuation = Box<dyn FnOnce(Result<(), Failure>) + Send>;

/// A control operation that waits for the firmware. Dropped undecided, it fails.
pub struct Change {
    /// Where.
    pub partition: Arc<Partition>,
    /// What, for policies and logs.
    pub operation: &'static str,
    /// Who: user and process id of the peer, as the kernel said at the handshake.
    pub peer: Peer,
    /// What to store.
    pub records: Vec<Record>,
    continuation: Option<Continuation>,
}

/// The other end of a connection, as the kernel says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id, in the module's namespace.
    pub pid: i32,
}

impl Change {
    /// A change whose outcome goes to `continuation`.
    pub fn new(
        partition: Arc<Partition>,
        operation: &'static str,
        peer: Peer,
        records: Vec<Record>,
        continuation: impl FnOnce(Result<(), Failure>) + Send + 'static,
    ) -> Self {
        Self {
            partition,
            operation,
            peer,
            records,
            continuation: Some(Box::new(continuation)),
        }
    }

    /// The records are on disk: make it visible and answer.
    pub fn complete(mut self) {
        self.partition.ledger.commit_root(&self.records);
        if let Some(continuation) = self.continuation.take() {
            continuation(Ok(()));
        }
    }

    /// Nothing was stored: answer with this code.
    pub fn refuse(mut self, code: CK_RV) {
        if let Some(continuation) = self.continuation.take() {
            continuation(Err(Failure::new(code)));
        }
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        if let Some(continuation) = self.continuation.take() {
            continuation(Err(Failure::new(CKR_DEVICE_ERROR)));
        }
    }
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Change({} in {}, {} records)",
            self.operation,
            self.partition.name(),
            self.records.len()
        )
    }
}

#[derive(Debug, Default)]
struct Queue {
    changes: VecDeque<Change>,
    closed: bool,
}

/// The queue between the workers and the firmware.
#[derive(Debug, Default)]
pub struct ControlQueue {
    queue: Mutex<Queue>,
    filled: Condvar,
}

impl ControlQueue {
    /// Puts a change in; with a closed queue it fails at once.
    pub fn push(&self, change: Change) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.closed {
            drop(queue);
            drop(change);
            return;
        }
        queue.changes.push_back(change);
        drop(queue);
        self.filled.notify_one();
    }

    /// Takes up to `limit` changes, in order; waits up to `timeout` for the first.
    pub fn take(&self, limit: usize, timeout: Duration) -> Vec<Change> {
        let deadline = Instant::now() + timeout;
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        while queue.changes.is_empty() && !queue.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Vec::new();
            }
            queue = self
                .filled
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let count = queue.changes.len().min(limit);
        queue.changes.drain(..count).collect()
    }

    /// No more changes: those that wait fail, and `take` returns at once.
    pub fn close(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.closed = true;
        let waiting = std::mem::take(&mut queue.changes);
        drop(queue);
        self.filled.notify_all();
        drop(waiting);
    }
}
