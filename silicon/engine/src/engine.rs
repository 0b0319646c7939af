//! The engine: one module's silicon. States: self-test → operational → zeroized; error is final.

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::control::{ControlQueue, Record, RecordKey, RecordKind};
use crate::lc::{Secret, random};
use crate::ledger::OpenError;
use crate::masking::{Identity, MaskError, MaskingKey, SECRET_BYTES};
use crate::partition::{Common, Partition, PartitionState, Policy};
use crate::report::Measurement;
use crate::sealing::SealingSource;
use crate::selftest::{self, SelfTest};
use crate::server::listener::Listener;

/// The states of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EngineState {
    /// Self-tests have not passed yet.
    SelfTest = 0,
    /// A self-test has failed; only a restart leads out.
    Error = 1,
    /// Serves.
    Operational = 2,
    /// Every key is wiped.
    Zeroized = 3,
}

/// Why the engine does not do what the firmware asks.
#[derive(Debug)]
pub enum EngineError {
    /// Not in this state.
    State(EngineState),
    /// There is no sealing secret yet.
    NotUnsealed,
    /// The sealing secret cannot be had.
    Sealing(String),
    /// A masked secret does not open.
    Secret(MaskError),
    /// A partition does not open.
    Open(OpenError),
    /// There is no such partition, or one with its id already.
    Partition(&'static str),
    /// The system refused something.
    System(String),
}

impl std::fmt::Display for EngineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::State(state) => write!(f, "the module is in state {state:?}"),
            Self::NotUnsealed => f.write_str("the sealing secret has not been opened yet"),
            Self::Sealing(what) => write!(f, "sealing secret: {what}"),
            Self::Secret(error) => write!(f, "the partition's masking secret {error}"),
            Self::Open(error) => write!(f, "{error}"),
            Self::Partition(what) => f.write_str(what),
            Self::System(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for EngineError {}

struct Served {
    partition: Arc<Partition>,
    listening: bool,
}

/// The engine.
pub struct Engine {
    state: AtomicU8,
    /// Random, new at each start: clients see by it that the module has restarted.
    pub instance: u64,
    sealing: Mutex<Option<MaskingKey>>,
    common: Common,
    partitions: Mutex<BTreeMap<[u8; 16], Served>>,
    listener: Mutex<Option<Listener>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// An engine that has tested nothing yet.
    pub fn new() -> Result<Self, EngineError> {
        let mut instance = [0; 8];
        random::fill(&mut instance).map_err(|e| EngineError::System(e.to_string()))?;
        Ok(Self {
            state: AtomicU8::new(EngineState::SelfTest as u8),
            instance: u64::from_le_bytes(instance),
            sealing: Mutex::new(None),
            common: Common::default(),
            partitions: Mutex::new(BTreeMap::new()),
            listener: Mutex::new(None),
        })
    }

    /// Control operations for the firmware.
    pub fn control(&self) -> &Arc<ControlQueue> {
        &self.common.control
    }

    /// The state.
    pub fn state(&self) -> EngineState {
        match self.state.load(Ordering::Acquire) {
            0 => EngineState::SelfTest,
            2 => EngineState::Operational,
            3 => EngineState::Zeroized,
            _ => EngineState::Error,
        }
    }

    fn require(&self, state: EngineState) -> Result<(), EngineError> {
        if self.state() == state {
            Ok(())
        } else {
            Err(EngineError::State(self.state()))
        }
    }

    /// Runs every self-test. A failure stops all services for good.
    pub fn self_test(&self) -> Vec<SelfTest> {
        let results = selftest::run_all();
        let passed = results.iter().all(|test| test.passed);
        let now = self.state();
        if !passed {
            self.state
                .store(EngineState::Error as u8, Ordering::Release);
            lock(&self.partitions)
                .values()
                .for_each(|s| s.partition.set_state(PartitionState::Closed));
        } else if now == EngineState::SelfTest {
            self.state
                .store(EngineState::Operational as u8, Ordering::Release);
        }
        results
    }

    /// Takes the sealing secret from its source.
    pub fn unseal(&self, source: &dyn SealingSource) -> Result<(), EngineError> {
        self.require(EngineState::Operational)?;
        let secret = source.secret().map_err(EngineError::Sealing)?;
        let key = MaskingKey::derive(&secret, b"casemate sealing").map_err(EngineError::Secret)?;
        *lock(&self.sealing) = Some(key);
        Ok(())
    }

    /// Sets what was measured of this module: key reports carry it.
    pub fn set_measurements(&self, measurements: Vec<Measurement>) {
        *self
            .common
            .measurements
            .write()
            .unwrap_or_else(PoisonError::into_inner) = measurements;
    }

    fn secret_identity(partition: [u8; 16]) -> Identity {
        Identity {
            partition,
            key: RecordKey {
                kind: RecordKind::Secret,
                id: 0,
            },
            generation: 0,
        }
    }

    /// A new masking secret, masked under the sealing secret.
    pub fn new_partition_secret(&self, partition: [u8; 16]) -> Result<Vec<u8>, EngineError> {
        let mut secret = Secret::zeroed(SECRET_BYTES);
        random::fill(secret.expose_mut()).map_err(|e| EngineError::System(e.to_string()))?;
        let sealing = lock(&self.sealing);
        let key = sealing.as_ref().ok_or(EngineError::NotUnsealed)?;
        key.mask(&Self::secret_identity(partition), secret.expose())
            .map_err(EngineError::Secret)
    }

    /// Opens a partition from its masked secret and its records.
    pub fn load_partition(
        &self,
        id: [u8; 16],
        name: &str,
        policy: Policy,
        secret: &[u8],
        records: &[Record],
    ) -> Result<Arc<Partition>, EngineError> {
        self.require(EngineState::Operational)?;
        let secret = {
            let sealing = lock(&self.sealing);
            let key = sealing.as_ref().ok_or(EngineError::NotUnsealed)?;
            let (identity, secret, _) = key.unmask(secret).map_err(EngineError::Secret)?;
            if identity != Self::secret_identity(id) {
                return Err(EngineError::Secret(MaskError::Identity));
            }
            secret
        };
        let mut partitions = lock(&self.partitions);
        if partitions.contains_key(&id) {
            return Err(EngineError::Partition("the partition is open already"));
        }
        let partition = Partition::open(id, name, policy, &secret, records, &self.common)
            .map_err(EngineError::Open)?;
        let served = Served {
            partition: partition.clone(),
            listening: false,
        };
        partitions.insert(id, served);
        Ok(partition)
    }

    /// Serves a bound socket; the partition's workers start with its first connection.
    pub fn serve(&self, id: &[u8; 16], socket: UnixListener) -> Result<(), EngineError> {
        let mut partitions = lock(&self.partitions);
        let served = partitions
            .get_mut(id)
            .ok_or(EngineError::Partition("there is no such partition"))?;
        if served.listening {
            return Err(EngineError::Partition(
                "the partition has its socket already",
            ));
        }
        let system = |error: std::io::Error| EngineError::System(error.to_string());
        let mut listener = lock(&self.listener);
        if listener.is_none() {
            *listener = Some(Listener::start(self.instance).map_err(system)?);
        }
        if let Some(listener) = listener.as_ref() {
            listener
                .add(served.partition.clone(), socket)
                .map_err(system)?;
            served.listening = true;
        }
        Ok(())
    }

    /// Ends a partition: its connections, workers, keys in memory.
    pub fn close_partition(&self, id: &[u8; 16]) {
        let served = lock(&self.partitions).remove(id);
        if let Some(served) = served {
            self.end(&served.partition);
        }
    }

    /// The partition with this id.
    pub fn partition(&self, id: &[u8; 16]) -> Option<Arc<Partition>> {
        lock(&self.partitions)
            .get(id)
            .map(|served| served.partition.clone())
    }

    /// Wipes every key in memory and ends all service.
    pub fn zeroize(&self) {
        self.state
            .store(EngineState::Zeroized as u8, Ordering::Release);
        *lock(&self.sealing) = None;
        self.stop();
    }

    /// Ends all service.
    pub fn stop(&self) {
        self.common.control.close();
        let all = std::mem::take(&mut *lock(&self.partitions));
        all.into_values()
            .for_each(|served| self.end(&served.partition));
        // Dropped, its thread ends.
        *lock(&self.listener) = None;
    }

    fn end(&self, partition: &Arc<Partition>) {
        partition.set_state(PartitionState::Closed);
        if let Some(listener) = lock(&self.listener).as_ref() {
            listener.remove(&partition.id);
        }
        partition.workers.stop(partition);
        partition.remove_all();
    }
}
