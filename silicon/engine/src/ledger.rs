//! The records of a partition at rest, and the root that authenticates their set.
//!
//! Each record is a masked blob that names partition, record and generation. The root is one more
//! record: how many others there are, and the exclusive or of a keyed fingerprint (HMAC) of each. It
//! is written in the same transaction as the records it covers. So a record that was damaged,
//! exchanged, restored from an older copy or taken away is noticed when the partition is opened. A
//! rollback of all records with their root is not: that needs a counter outside of the folder.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cryptoki_sys::CKR_DEVICE_MEMORY;

use crate::control::{Record, RecordKey, RecordKind};
use crate::failure::Failure;
use crate::lc::{Secret, hmac};
use crate::masking::{self, Identity, MaskError, MaskingKey};

/// The authenticated state of all records: how many, and the sum of their fingerprints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Root {
    generation: u64,
    records: BTreeMap<RecordKey, (u64, [u8; 16])>,
    sum: [u8; 32],
}

/// The records of one partition.
#[derive(Debug)]
pub struct Ledger {
    partition: [u8; 16],
    records_key: MaskingKey,
    root_key: Secret,
    root: Mutex<Root>,
}

/// A partition that cannot be opened: which record, and why.
#[derive(Debug)]
pub enum OpenError {
    /// A record does not open, or is not the one that its place says.
    Record(RecordKey, MaskError),
    /// There are records and no root, or the root is not theirs.
    Root(String),
    /// Memory, randomness or descriptors failed.
    Resources(String),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Record(key, error) => write!(f, "record {:?} {}: {error}", key.kind, key.id),
            Self::Root(what) => f.write_str(what),
            Self::Resources(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for OpenError {}

fn lock(root: &Mutex<Root>) -> MutexGuard<'_, Root> {
    root.lock().unwrap_or_else(PoisonError::into_inner)
}

fn root_plain(count: usize, sum: &[u8; 32]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(40);
    plain.extend_from_slice(&(count as u64).to_le_bytes());
    plain.extend_from_slice(sum);
    plain
}

impl Ledger {
    /// An empty ledger under a partition's masking secret.
    pub fn new(partition: [u8; 16], secret: &Secret) -> Result<Self, MaskError> {
        Ok(Self {
            partition,
            records_key: MaskingKey::derive(secret, b"casemate records")?,
            root_key: masking::derive(secret, b"casemate root")?,
            root: Mutex::new(Root::default()),
        })
    }

    /// Opens stored records, hands each but the root to `take`, and compares their set with the root.
    pub fn open(
        &self,
        records: &[Record],
        mut take: impl FnMut(&Record, Secret, [u8; 16]) -> Result<(), MaskError>,
    ) -> Result<(), OpenError> {
        let mut root = Root::default();
        let mut stored_root = None;
        for record in records {
            let Some(blob) = &record.blob else { continue };
            let fail = |error| OpenError::Record(record.key, error);
            let (identity, plain, tag) = self.records_key.unmask(blob).map_err(fail)?;
            if identity != self.identity(record.key, record.generation) {
                return Err(fail(MaskError::Identity));
            }
            if record.key.kind == RecordKind::Root {
                stored_root = Some((record.generation, plain.expose().to_vec()));
                continue;
            }
            take(record, plain, tag).map_err(fail)?;
            self.add(&mut root, record.key, record.generation, tag);
        }
        match stored_root {
            None if root.records.is_empty() => {}
            None => {
                return Err(OpenError::Root(format!(
                    "{} records and no root record",
                    root.records.len()
                )));
            }
            Some((generation, plain)) => {
                if plain != root_plain(root.records.len(), &root.sum) {
                    return Err(OpenError::Root(format!(
                        "the {} records are not those that the root record (generation {generation}) \
                         authenticates: part of the state folder was restored, removed or exchanged",
                        root.records.len()
                    )));
                }
                root.generation = generation;
            }
        }
        *lock(&self.root) = root;
        Ok(())
    }

    fn identity(&self, key: RecordKey, generation: u64) -> Identity {
        Identity {
            partition: self.partition,
            key,
            generation,
        }
    }

    /// The record of these bytes, masked.
    pub fn record(&self, key: RecordKey, generation: u64, plain: &[u8]) -> Result<Record, Failure> {
        match self
            .records_key
            .mask(&self.identity(key, generation), plain)
        {
            Ok(blob) => Ok(Record {
                key,
                generation,
                blob: Some(blob),
            }),
            Err(MaskError::TooLarge(_)) => Err(CKR_DEVICE_MEMORY.into()),
            Err(_) => Err(Failure::internal()),
        }
    }

    /// Seals bytes that go to a client and come back (operation states).
    pub fn seal_state(&self, plain: &[u8]) -> Result<Vec<u8>, Failure> {
        let key = RecordKey {
            kind: RecordKind::Secret,
            id: u64::MAX,
        };
        self.records_key
            .mask(&self.identity(key, 0), plain)
            .map_err(|_| Failure::internal())
    }

    /// Opens what `seal_state` sealed; None: it is not from here.
    pub fn open_state(&self, blob: &[u8]) -> Option<Secret> {
        let key = RecordKey {
            kind: RecordKind::Secret,
            id: u64::MAX,
        };
        let (identity, plain, _) = self.records_key.unmask(blob).ok()?;
        (identity == self.identity(key, 0)).then_some(plain)
    }

    fn fingerprint(&self, key: RecordKey, generation: u64, tag: &[u8; 16]) -> [u8; 32] {
        let mut message = Vec::with_capacity(40);
        message.extend_from_slice(&(key.kind as u64).to_le_bytes());
        message.extend_from_slice(&key.id.to_le_bytes());
        message.extend_from_slice(&generation.to_le_bytes());
        message.extend_from_slice(tag);
        hmac::sha256(self.root_key.expose(), &message)
    }

    fn add(&self, root: &mut Root, key: RecordKey, generation: u64, tag: [u8; 16]) {
        self.take_out(root, key);
        xor(&mut root.sum, &self.fingerprint(key, generation, &tag));
        root.records.insert(key, (generation, tag));
    }

    fn take_out(&self, root: &mut Root, key: RecordKey) {
        if let Some((generation, tag)) = root.records.remove(&key) {
            xor(&mut root.sum, &self.fingerprint(key, generation, &tag));
        }
    }

    fn apply(&self, root: &mut Root, records: &[Record]) {
        for record in records {
            match record.blob.as_deref().and_then(masking::tag_of) {
                Some(tag) => self.add(root, record.key, record.generation, tag),
                None => self.take_out(root, record.key),
            }
        }
    }

    /// The root record as it will be when these changes are stored, in their order.
    pub fn seal_root<'a>(
        &self,
        changes: impl Iterator<Item = &'a [Record]>,
    ) -> Result<Record, Failure> {
        let root = lock(&self.root);
        let (mut count, mut sum) = (root.records.len(), root.sum);
        let mut changed: HashMap<RecordKey, Option<(u64, [u8; 16])>> = HashMap::new();
        for record in changes.flatten() {
            let before = changed
                .get(&record.key)
                .copied()
                .unwrap_or(root.records.get(&record.key).copied());
            let after = record
                .blob
                .as_deref()
                .and_then(masking::tag_of)
                .map(|tag| (record.generation, tag));
            if let Some((generation, tag)) = before {
                xor(&mut sum, &self.fingerprint(record.key, generation, &tag));
                count -= 1;
            }
            if let Some((generation, tag)) = after {
                xor(&mut sum, &self.fingerprint(record.key, generation, &tag));
                count += 1;
            }
            changed.insert(record.key, after);
        }
        let key = RecordKey {
            kind: RecordKind::Root,
            id: 0,
        };
        self.record(key, root.generation + 1, &root_plain(count, &sum))
    }

    /// These records are on disk.
    pub fn commit_root(&self, records: &[Record]) {
        let mut root = lock(&self.root);
        self.apply(&mut root, records);
        root.generation += 1;
    }

    /// How often the stored state has changed.
    pub fn root_generation(&self) -> u64 {
        lock(&self.root).generation
    }
}

fn xor(sum: &mut [u8; 32], value: &[u8; 32]) {
    for (left, right) in sum.iter_mut().zip(value) {
        *left ^= right;
    }
}
