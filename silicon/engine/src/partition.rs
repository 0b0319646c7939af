//! A partition: the unit of tenancy.
//!
//! It has its own objects, masking key, DRBG, roles, quotas, connections and workers; nothing in it
//! has an address in another partition. States: operational ⇄ suspended → closed. Suspended and
//! closed partitions answer CKR_DEVICE_REMOVED or CKR_TOKEN_NOT_PRESENT and begin nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use casemate_transport::ring::StatusPage;
use cryptoki_sys::{
    CKR_DEVICE_MEMORY, CKR_DEVICE_REMOVED, CKR_SESSION_COUNT, CKR_TOKEN_NOT_PRESENT,
};

use crate::cache::{KeyCache, PARSED_MAX};
use crate::connection::Connection;
use crate::control::{ControlQueue, Record, RecordKey, RecordKind};
use crate::failure::Failure;
use crate::lc::Secret;
use crate::lc::random::{self, Drbg};
use crate::ledger::{Ledger, OpenError};
use crate::masking::MaskError;
use crate::mechanisms::HeldBytes;
use crate::metrics::Metrics;
use crate::object::{Object, Owner, SESSION_OBJECT};
use crate::report::{IdentityKey, Measurement};
use crate::roles::Roles;
use crate::server::competition::Competition;
use crate::server::pool::Pool;

mod policy;

pub use policy::Policy;

/// What all partitions of a module share.
#[derive(Clone, Debug, Default)]
pub struct Common {
    /// Where control operations go.
    pub control: Arc<ControlQueue>,
    /// The measured parts of the module that runs them.
    pub measurements: Arc<RwLock<Vec<Measurement>>>,
    /// Who works.
    pub competition: Arc<Competition>,
}

/// The states of a partition, as the status page shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PartitionState {
    /// Serves.
    Operational = 0,
    /// Keeps everything and begins nothing.
    Suspended = 1,
    /// Is gone.
    Closed = 2,
}

/// A partition.
pub struct Partition {
    /// Its UUID.
    pub id: [u8; 16],
    name: String,
    policy: RwLock<Arc<Policy>>,
    policy_changes: AtomicU64,
    /// What clients map read-only.
    pub status: StatusPage,
    /// The descriptor of the status page, passed to each client.
    pub status_fd: std::os::fd::OwnedFd,
    state: AtomicU32,
    /// By handle: token objects, then session objects.
    objects: RwLock<BTreeMap<u64, Arc<Object>>>,
    object_changes: AtomicU64,
    /// The keys of token objects.
    pub cache: Arc<KeyCache>,
    next_token_object: AtomicU64,
    next_session_object: AtomicU64,
    next_session: AtomicU64,
    sessions: AtomicU64,
    /// Copied when it changes: workers keep it while they are awake.
    connections: RwLock<Arc<Vec<Arc<Connection>>>>,
    connection_changes: AtomicU64,
    /// PINs and failure counts.
    pub roles: Mutex<Roles>,
    drbg: Mutex<Drbg>,
    /// Bytes that operations under way hold back.
    pub held: Arc<HeldBytes>,
    /// The records at rest, and the root that authenticates their set.
    pub ledger: Ledger,
    /// Signs key reports.
    pub identity: IdentityKey,
    /// The certificates of the identity key, leaf first, DER; set by the firmware.
    chain: RwLock<Vec<Vec<u8>>>,
    /// The measured parts of the module that runs this.
    pub measurements: Arc<RwLock<Vec<Measurement>>>,
    /// Where control operations go.
    pub control: Arc<ControlQueue>,
    /// Figures, for other processes.
    pub metrics: Arc<Metrics>,
    /// Wakes the partition's workers; set by the server.
    pub bell: crate::server::Bell,
    /// Its threads.
    pub workers: Pool,
    /// Who works, of all partitions.
    pub competition: Arc<Competition>,
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Partition({})", self.name)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Partition {
    /// Opens a partition from its masking secret and its stored records.
    pub fn open(
        id: [u8; 16],
        name: &str,
        policy: Policy,
        secret: &Secret,
        records: &[Record],
        common: &Common,
    ) -> Result<Arc<Self>, OpenError> {
        let resources = |what: &dyn std::fmt::Display| OpenError::Resources(what.to_string());
        let (page, status_fd) = casemate_transport::memory::SharedMemory::create(
            c"casemate-status",
            casemate_transport::layout::STATUS_BYTES,
            true,
        )
        .map_err(|e| resources(&e))?;
        let status = StatusPage::new(page).ok_or(OpenError::Resources("status page".into()))?;
        // A handle that a client kept over a restart must not name another session's object.
        let mut beginning = [0; 4];
        random::fill(&mut beginning).map_err(|e| resources(&e))?;
        let beginning = SESSION_OBJECT | u64::from(u32::from_le_bytes(beginning)) << 24 | 1;
        let partition = Self {
            id,
            name: name.to_owned(),
            policy: RwLock::new(Arc::new(policy)),
            policy_changes: AtomicU64::new(0),
            status,
            status_fd,
            state: AtomicU32::new(PartitionState::Operational as u32),
            objects: RwLock::default(),
            object_changes: AtomicU64::new(0),
            cache: KeyCache::new(PARSED_MAX).map_err(|e| resources(&e))?,
            next_token_object: AtomicU64::new(1),
            next_session_object: AtomicU64::new(beginning),
            next_session: AtomicU64::new(1),
            sessions: AtomicU64::new(0),
            connections: RwLock::default(),
            connection_changes: AtomicU64::new(0),
            roles: Mutex::new(Roles::default()),
            drbg: Mutex::new(Drbg::new(&id).map_err(|e| resources(&e))?),
            held: Arc::default(),
            ledger: Ledger::new(id, secret).map_err(|e| resources(&e))?,
            identity: IdentityKey::derive(secret).map_err(|e| resources(&e))?,
            chain: RwLock::new(Vec::new()),
            measurements: common.measurements.clone(),
            control: common.control.clone(),
            competition: common.competition.clone(),
            metrics: Arc::new(Metrics::new(name).map_err(|e| resources(&e))?),
            bell: crate::server::Bell::new().map_err(|e| resources(&e))?,
            workers: Pool::default(),
        };
        partition.load(records)?;
        Ok(Arc::new(partition))
    }

    fn load(&self, records: &[Record]) -> Result<(), OpenError> {
        self.ledger.open(records, |record, plain, tag| {
            match record.key.kind {
                RecordKind::Object => {
                    let mut object = Object::from_record(
                        record.key.id,
                        record.generation,
                        plain.expose(),
                        &self.cache,
                    )
                    .map_err(|_| MaskError::Malformed(0))?;
                    object.record_tag = tag;
                    self.next_token_object
                        .fetch_max(record.key.id + 1, Ordering::Relaxed);
                    self.write_objects().insert(object.handle, Arc::new(object));
                }
                RecordKind::Roles => {
                    let roles = Roles::decode(plain.expose(), record.generation)
                        .map_err(|e| MaskError::Malformed(e.offset))?;
                    *lock(&self.roles) = roles;
                }
                RecordKind::Identity | RecordKind::Secret | RecordKind::Root => {}
            }
            Ok(())
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it may do.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Counts the changes of the policy.
    pub fn policy_changes(&self) -> u64 {
        self.policy_changes.load(Ordering::Acquire)
    }

    /// Sets what it may do from now on, and with how many workers.
    pub fn set_policy(self: &Arc<Self>, policy: Policy) {
        {
            let mut current = self.policy.write().unwrap_or_else(PoisonError::into_inner);
            *current = Arc::new(policy);
            self.policy_changes.fetch_add(1, Ordering::Release);
        }
        // Without further threads those that run go on.
        let _ = self.workers.adapt(self);
        self.status.advance_epoch();
    }

    /// Its state.
    pub fn state(&self) -> PartitionState {
        match self.state.load(Ordering::Acquire) {
            0 => PartitionState::Operational,
            1 => PartitionState::Suspended,
            _ => PartitionState::Closed,
        }
    }

    /// Goes to a state; a closed partition stays closed.
    pub fn set_state(&self, state: PartitionState) {
        let changed = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
                (now != PartitionState::Closed as u32).then_some(state as u32)
            });
        if changed.is_ok() {
            self.status.set_state(state as u32);
            self.status.advance_epoch();
        }
    }

    /// Fails unless it is operational.
    pub fn require_operational(&self) -> Result<(), Failure> {
        match self.state() {
            PartitionState::Operational => Ok(()),
            PartitionState::Suspended => Err(CKR_TOKEN_NOT_PRESENT.into()),
            PartitionState::Closed => Err(CKR_DEVICE_REMOVED.into()),
        }
    }

    /// Random bytes of the partition's DRBG.
    pub fn random(&self, out: &mut [u8]) -> Result<(), Failure> {
        lock(&self.drbg).fill(out).map_err(|_| Failure::internal())
    }

    /// Mixes the caller's bytes into the DRBG.
    pub fn seed_random(&self, bytes: &[u8]) -> Result<(), Failure> {
        lock(&self.drbg).mix(bytes).map_err(|_| Failure::internal())
    }

    /// The certificates of the identity key, leaf first.
    pub fn chain(&self) -> Vec<Vec<u8>> {
        self.chain
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Sets the certificates of the identity key.
    pub fn set_chain(&self, chain: Vec<Vec<u8>>) {
        *self.chain.write().unwrap_or_else(PoisonError::into_inner) = chain;
    }

    // --- connections ---------------------------------------------------------------------------

    /// The connections at this moment.
    pub fn connections(&self) -> Arc<Vec<Arc<Connection>>> {
        self.connections
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Counts the changes of the connections.
    pub fn connection_changes(&self) -> u64 {
        self.connection_changes.load(Ordering::Acquire)
    }

    /// Adds a connection. False: the quota of connections or of mapped bytes is used up.
    pub fn add_connection(&self, connection: Arc<Connection>) -> bool {
        let policy = self.policy();
        let mut connections = self
            .connections
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let mapped: u64 = connections.iter().map(|c| c.mapped_bytes()).sum();
        if connections.len() as u64 >= policy.connections
            || mapped + connection.mapped_bytes() > policy.mapped_bytes
        {
            return false;
        }
        Arc::make_mut(&mut connections).push(connection);
        self.connection_changes.fetch_add(1, Ordering::Release);
        true
    }

    /// Requests that no worker has taken, and those that one has and has not answered.
    pub fn depth(&self) -> (u64, u64) {
        let connections = self.connections();
        let depths = connections.iter().map(|c| c.depth());
        depths.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// Bytes of shared memory of all connections.
    pub fn mapped_bytes(&self) -> u64 {
        self.connections().iter().map(|c| c.mapped_bytes()).sum()
    }

    /// Takes a connection out, with its sessions and their objects.
    pub fn remove_connection(&self, connection: &Connection) {
        connection.close();
        {
            let mut connections = self
                .connections
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            Arc::make_mut(&mut connections).retain(|c| c.id != connection.id);
            self.connection_changes.fetch_add(1, Ordering::Release);
        }
        let ended = std::mem::take(&mut *connection.change_sessions()).len() as u64;
        self.sessions.fetch_sub(ended, Ordering::AcqRel);
        self.remove_owned(|_, owner| owner.connection == connection.id);
    }

    /// Counts a new session in; returns its number.
    pub fn begin_session(&self) -> Result<u64, Failure> {
        let limit = self.policy().sessions;
        self.sessions
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                (n < limit).then_some(n + 1)
            })
            .map_err(|_| Failure::new(CKR_SESSION_COUNT))?;
        Ok(self.next_session.fetch_add(1, Ordering::Relaxed))
    }

    /// Counts a session out and destroys its objects.
    pub fn end_session(&self, connection: u64, session: u64) {
        self.sessions.fetch_sub(1, Ordering::AcqRel);
        self.remove_owned(|_, owner| (owner.connection, owner.session) == (connection, session));
    }

    /// Sessions at this moment.
    pub fn session_count(&self) -> u64 {
        self.sessions.load(Ordering::Acquire)
    }

    // --- objects -------------------------------------------------------------------------------

    /// The objects, to be changed: what was remembered of them no longer holds.
    fn write_objects(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<u64, Arc<Object>>> {
        let objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        self.object_changes.fetch_add(1, Ordering::Release);
        objects
    }

    /// Counts the changes of the objects.
    pub fn object_changes(&self) -> u64 {
        self.object_changes.load(Ordering::Acquire)
    }

    /// The object with this handle.
    pub fn object(&self, handle: u64) -> Option<Arc<Object>> {
        self.read_objects().get(&handle).cloned()
    }

    fn read_objects(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<u64, Arc<Object>>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// All objects, by handle.
    pub fn objects(&self) -> Vec<Arc<Object>> {
        self.read_objects().values().cloned().collect()
    }

    /// At most so many objects from this handle on, by handle.
    pub fn objects_from(&self, handle: u64, most: usize) -> Vec<Arc<Object>> {
        let objects = self.read_objects();
        let rest = objects.range(handle..).take(most);
        rest.map(|(_, object)| object.clone()).collect()
    }

    /// Objects at this moment.
    pub fn object_count(&self) -> u64 {
        self.read_objects().len() as u64
    }

    /// Takes the session objects away that end.
    fn remove_owned(&self, ends: impl Fn(&Object, Owner) -> bool) {
        let ended: Vec<u64> = self
            .read_objects()
            .range(SESSION_OBJECT..)
            .filter(|(_, object)| object.owner.is_some_and(|owner| ends(object, owner)))
            .map(|(handle, _)| *handle)
            .collect();
        if !ended.is_empty() {
            let mut objects = self.write_objects();
            for handle in ended {
                objects.remove(&handle);
            }
        }
    }

    /// Fails unless `count` further objects fit the quota, and key memory where it must be locked.
    pub fn require_room(&self, count: u64) -> Result<(), Failure> {
        let held = self.object_count();
        if held + count > self.policy().keys || !crate::arena::has_room() {
            Err(CKR_DEVICE_MEMORY.into())
        } else {
            Ok(())
        }
    }

    /// A handle that no object had before.
    pub fn new_handle(&self, token: bool) -> u64 {
        let counter = if token {
            &self.next_token_object
        } else {
            &self.next_session_object
        };
        counter.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes an object visible, or its newer form.
    pub fn insert(&self, mut object: Object) -> Arc<Object> {
        // Where that fails the object works as well, outside of the cache's bound.
        if object.owner.is_none() {
            let _ = object.move_key_to(&self.cache);
        }
        let object = Arc::new(object);
        let replaced = self.write_objects().insert(object.handle, object.clone());
        if replaced.is_some() {
            self.status.advance_epoch();
        }
        object
    }

    /// Takes an object away.
    pub fn remove(&self, handle: u64) {
        if let Some(object) = self.write_objects().remove(&handle) {
            object.destroyed.store(true, Ordering::Release);
        }
        self.status.advance_epoch();
    }

    /// The deletions of every token object: C_InitToken stores them.
    pub fn deletions(&self) -> Vec<Record> {
        self.objects()
            .iter()
            .filter(|object| object.is_token())
            .map(|object| Record {
                key: RecordKey {
                    kind: RecordKind::Object,
                    id: object.handle,
                },
                generation: object.generation + 1,
                blob: None,
            })
            .collect()
    }

    /// Takes the private session objects of a connection away: its logout.
    pub fn end_private_session_objects(&self, connection: u64) {
        self.remove_owned(|object, owner| object.is_private() && owner.connection == connection);
        self.status.advance_epoch();
    }

    /// Runs slow work that must hold up neither a worker nor the firmware.
    pub fn run_aside(self: Arc<Self>, work: impl FnOnce() + Send + 'static) {
        // Without a thread the work is dropped, and with it the reply, which then says so.
        let _ = std::thread::Builder::new()
            .name("casemate-aside".into())
            .spawn(work);
    }

    /// Takes every object away: the partition's end, or C_InitToken.
    pub fn remove_all(&self) {
        self.write_objects().clear();
        self.status.advance_epoch();
    }
}
