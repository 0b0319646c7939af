//! The engine as the firmware sees it. Not Python: it hands out handles to what only silicon may hold.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use casemate_engine::arena::{self, process};
use casemate_engine::control::{
    Change as EngineChange, Record as EngineRecord, RecordKey, RecordKind,
};
use casemate_engine::engine::{Engine as SiliconEngine, EngineError};
use casemate_engine::partition::{Partition as SiliconPartition, PartitionState, Policy};
use casemate_engine::report::Measurement;
use casemate_engine::sealing::{SealingDescriptor, SealingFile};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

fn failed(error: EngineError) -> PyErr {
    match error {
        EngineError::Open(_) | EngineError::Secret(_) | EngineError::Sealing(_) => {
            PyValueError::new_err(error.to_string())
        }
        EngineError::System(what) => PyOSError::new_err(what),
        other => PyRuntimeError::new_err(other.to_string()),
    }
}

fn uuid(bytes: &[u8]) -> PyResult<[u8; 16]> {
    bytes.try_into().map_err(|_| {
        PyValueError::new_err(format!("a partition id has 16 bytes, not {}", bytes.len()))
    })
}

/// States of the module.
#[pyclass(module = "casemate._silicon", eq, eq_int, frozen)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types, clippy::upper_case_acronyms)]
pub enum EngineState {
    SELF_TEST = 0,
    ERROR = 1,
    OPERATIONAL = 2,
    ZEROIZED = 3,
}

/// One self-test.
#[pyclass(module = "casemate._silicon", frozen, get_all)]
pub struct SelfTestResult {
    name: String,
    passed: bool,
    micros: u64,
}

/// What a partition may do.
#[pyclass(module = "casemate._silicon", frozen, from_py_object)]
#[derive(Clone)]
pub struct PartitionPolicy(Policy);

#[pymethods]
impl PartitionPolicy {
    #[new]
    #[pyo3(signature = (*, pin_required=false, legacy_test=false, mechanisms=None, keys=4096, sessions=1024,
                        connections=256, mapped_bytes=1 << 30, workers=0, weight=100, spin=200))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        pin_required: bool,
        legacy_test: bool,
        mechanisms: Option<Vec<u64>>,
        keys: u64,
        sessions: u64,
        connections: u64,
        mapped_bytes: u64,
        workers: u32,
        weight: u32,
        spin: u32,
    ) -> Self {
        Self(Policy {
            pin_required,
            legacy_test,
            mechanisms,
            keys,
            sessions,
            connections,
            mapped_bytes,
            workers,
            weight,
            spin,
        })
    }
}

/// One persistent record.
#[pyclass(module = "casemate._silicon", frozen)]
pub struct Record(EngineRecord);

#[pymethods]
impl Record {
    #[getter]
    fn kind(&self) -> u8 {
        self.0.key.kind as u8
    }

    #[getter]
    fn id(&self) -> u64 {
        self.0.key.id
    }

    #[getter]
    fn generation(&self) -> u64 {
        self.0.generation
    }

    #[getter]
    fn blob<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.blob.as_deref().map(|blob| PyBytes::new(py, blob))
    }
}

/// A control operation that waits for the firmware.
#[pyclass(module = "casemate._silicon", frozen)]
pub struct Change(Mutex<Option<EngineChange>>);

impl Change {
    fn with<T>(&self, read: impl FnOnce(&EngineChange) -> T) -> PyResult<T> {
        let change = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change
            .as_ref()
            .map(read)
            .ok_or_else(|| PyRuntimeError::new_err("the change is decided already"))
    }

    fn take(&self) -> PyResult<EngineChange> {
        let mut change = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change
            .take()
            .ok_or_else(|| PyRuntimeError::new_err("the change is decided already"))
    }
}

#[pymethods]
impl Change {
    #[getter]
    fn partition<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.with(|change| PyBytes::new(py, &change.partition.id))
    }

    #[getter]
    fn operation(&self) -> PyResult<&'static str> {
        self.with(|change| change.operation)
    }

    #[getter]
    fn peer_uid(&self) -> PyResult<u32> {
        self.with(|change| change.peer.uid)
    }

    #[getter]
    fn peer_pid(&self) -> PyResult<i32> {
        self.with(|change| change.peer.pid)
    }

    #[getter]
    fn records(&self) -> PyResult<Vec<Record>> {
        self.with(|change| change.records.iter().cloned().map(Record).collect())
    }

    fn complete(&self, py: Python<'_>) -> PyResult<()> {
        let change = self.take()?;
        py.detach(|| change.complete());
        Ok(())
    }

    fn refuse(&self, py: Python<'_>, reason: u64) -> PyResult<()> {
        let change = self.take()?;
        py.detach(|| change.refuse(reason));
        Ok(())
    }
}

/// Counts and limits of a partition, at one moment.
#[pyclass(module = "casemate._silicon", frozen, get_all)]
pub struct PartitionStatus {
    objects: u64,
    token_objects: u64,
    sessions: u64,
    connections: u64,
    mapped_bytes: u64,
    operations: u64,
    errors: u64,
    waiting: u64,
    in_hand: u64,
    cpu_nanoseconds: u64,
    state: u32,
    pin_initialised: bool,
}

/// A partition that silicon serves.
#[pyclass(module = "casemate._silicon", frozen)]
pub struct Partition {
    engine: Arc<SiliconEngine>,
    partition: Arc<SiliconPartition>,
}

#[pymethods]
impl Partition {
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.partition.id)
    }

    #[getter]
    fn name(&self) -> &str {
        self.partition.name()
    }

    fn listen(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        use std::os::unix::fs::PermissionsExt;
        py.detach(|| {
            let socket = std::os::unix::net::UnixListener::bind(&path)
                .and_then(|socket| {
                    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))
                        .map(|()| socket)
                })
                .map_err(|error| PyOSError::new_err(format!("{}: {error}", path.display())))?;
            self.engine
                .serve(&self.partition.id, socket)
                .map_err(failed)
        })
    }

    fn suspend(&self) {
        self.partition.set_state(PartitionState::Suspended);
    }

    fn resume(&self) {
        self.partition.set_state(PartitionState::Operational);
    }

    fn set_policy(&self, policy: PartitionPolicy) {
        self.partition.set_policy(policy.0);
    }

    fn status(&self, py: Python<'_>) -> PartitionStatus {
        use casemate_engine::roles::Role;
        py.detach(|| {
            let (operations, errors) = self.partition.metrics.totals();
            let (waiting, in_hand) = self.partition.depth();
            let objects = self.partition.objects();
            let roles = self
                .partition
                .roles
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            PartitionStatus {
                objects: objects.len() as u64,
                token_objects: objects.iter().filter(|object| object.is_token()).count() as u64,
                sessions: self.partition.session_count(),
                connections: self.partition.connections().len() as u64,
                mapped_bytes: self.partition.mapped_bytes(),
                operations,
                errors,
                waiting,
                in_hand,
                cpu_nanoseconds: self.partition.metrics.cpu_nanoseconds(),
                state: self.partition.state() as u32,
                pin_initialised: roles.is_initialised(Role::User),
            }
        })
    }

    fn identity_public_point<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let point = self
            .partition
            .identity
            .public_point()
            .map_err(|failure| PyRuntimeError::new_err(failure.to_string()))?;
        Ok(PyBytes::new(py, &point))
    }

    fn identity_sign<'py>(
        &self,
        py: Python<'py>,
        tbs_certificate: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let signature = self
            .partition
            .identity
            .sign(tbs_certificate)
            .map_err(|failure| PyRuntimeError::new_err(failure.to_string()))?;
        Ok(PyBytes::new(py, &signature))
    }

    fn set_chain(&self, certificates: Vec<Vec<u8>>) {
        self.partition.set_chain(certificates);
    }

    fn metrics_descriptor(&self) -> PyResult<i32> {
        use std::os::fd::IntoRawFd;
        let descriptor = self.partition.metrics.descriptor.try_clone();
        Ok(descriptor
            .map_err(|error| PyOSError::new_err(error.to_string()))?
            .into_raw_fd())
    }

    fn destroy(&self, py: Python<'_>) {
        py.detach(|| self.engine.close_partition(&self.partition.id));
    }
}

/// The silicon of one module.
#[pyclass(module = "casemate._silicon", frozen)]
pub struct Engine(Arc<SiliconEngine>);

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (*, require_locked=false))]
    fn new(require_locked: bool) -> PyResult<Self> {
        process::harden().map_err(|error| {
            PyOSError::new_err(format!("core dumps cannot be forbidden: {error}"))
        })?;
        arena::install(require_locked).map_err(PyOSError::new_err)?;
        Ok(Self(Arc::new(SiliconEngine::new().map_err(failed)?)))
    }

    #[getter]
    fn state(&self) -> EngineState {
        use casemate_engine::engine::EngineState as State;
        match self.0.state() {
            State::SelfTest => EngineState::SELF_TEST,
            State::Error => EngineState::ERROR,
            State::Operational => EngineState::OPERATIONAL,
            State::Zeroized => EngineState::ZEROIZED,
        }
    }

    #[getter]
    fn instance(&self) -> u64 {
        self.0.instance
    }

    fn memory_report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (memory, around) = (arena::report(), process::report());
        let report = PyDict::new(py);
        report.set_item("arena", memory.kind.map_or("heap", arena::Kind::name))?;
        report.set_item("locked", memory.locked > 0 && memory.unlocked == 0)?;
        report.set_item("locked_bytes", memory.locked)?;
        report.set_item("unlocked_bytes", memory.unlocked)?;
        report.set_item("message_bytes", memory.large)?;
        report.set_item("library_inside", memory.library)?;
        let limited = (around.lock_limit != u64::MAX).then_some(around.lock_limit);
        report.set_item("lock_limit", limited)?;
        report.set_item("dumpable", around.dumpable)?;
        report.set_item("core_limit", around.core_limit)?;
        report.set_item("ptrace_scope", around.ptrace_scope)?;
        report.set_item("swap", around.swap)?;
        Ok(report)
    }

    fn self_test(&self, py: Python<'_>) -> Vec<SelfTestResult> {
        py.detach(|| self.0.self_test())
            .into_iter()
            .map(|test| SelfTestResult {
                name: test.name.to_owned(),
                passed: test.passed,
                micros: test.micros,
            })
            .collect()
    }

    #[pyo3(signature = (path, *, create))]
    fn unseal_from_file(&self, py: Python<'_>, path: PathBuf, create: bool) -> PyResult<()> {
        py.detach(|| self.0.unseal(&SealingFile::new(&path, create)))
            .map_err(failed)
    }

    fn unseal_from_descriptor(&self, py: Python<'_>, descriptor: i32) -> PyResult<()> {
        use std::os::fd::FromRawFd;
        // SAFETY: the caller gives the descriptor away.
        let descriptor = unsafe { std::os::fd::OwnedFd::from_raw_fd(descriptor) };
        py.detach(|| self.0.unseal(&SealingDescriptor::new(descriptor)))
            .map_err(failed)
    }

    fn set_measurements(&self, measurements: Vec<(String, Vec<u8>)>) -> PyResult<()> {
        let measurements = measurements
            .into_iter()
            .map(|(name, digest)| {
                let digest = digest.try_into().map_err(|_| {
                    PyValueError::new_err(format!(
                        "the measurement of {name} is not a SHA-384 digest"
                    ))
                })?;
                Ok(Measurement { name, digest })
            })
            .collect::<PyResult<Vec<_>>>()?;
        self.0.set_measurements(measurements);
        Ok(())
    }

    fn new_partition_secret<'py>(
        &self,
        py: Python<'py>,
        partition: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let secret = self
            .0
            .new_partition_secret(uuid(partition)?)
            .map_err(failed)?;
        Ok(PyBytes::new(py, &secret))
    }

    fn load_partition(
        &self,
        py: Python<'_>,
        partition: &[u8],
        name: &str,
        policy: PartitionPolicy,
        secret: &[u8],
        records: Vec<(u64, u64, u64, Vec<u8>)>,
    ) -> PyResult<Partition> {
        let id = uuid(partition)?;
        let records = records
            .into_iter()
            .map(|(kind, id, generation, blob)| {
                let kind = RecordKind::from_code(kind).ok_or_else(|| {
                    PyValueError::new_err(format!("record {id} has the unknown kind {kind}"))
                })?;
                Ok(EngineRecord {
                    key: RecordKey { kind, id },
                    generation,
                    blob: Some(blob),
                })
            })
            .collect::<PyResult<Vec<_>>>()?;
        let partition = py
            .detach(|| self.0.load_partition(id, name, policy.0, secret, &records))
            .map_err(failed)?;
        Ok(Partition {
            engine: self.0.clone(),
            partition,
        })
    }

    fn next_changes(&self, py: Python<'_>, limit: usize, timeout_ms: u64) -> Vec<Change> {
        py.detach(|| {
            self.0
                .control()
                .take(limit, Duration::from_millis(timeout_ms))
        })
        .into_iter()
        .map(|change| Change(Mutex::new(Some(change))))
        .collect()
    }

    fn seal_root(&self, partition: &[u8], accepted: Vec<PyRef<'_, Change>>) -> PyResult<Record> {
        let partition = self
            .0
            .partition(&uuid(partition)?)
            .ok_or_else(|| PyRuntimeError::new_err("there is no such partition"))?;
        let records: Vec<Vec<EngineRecord>> = accepted
            .iter()
            .map(|change| change.with(|c| c.records.clone()))
            .collect::<PyResult<_>>()?;
        partition
            .ledger
            .seal_root(records.iter().map(Vec::as_slice))
            .map(Record)
            .map_err(|failure| PyRuntimeError::new_err(failure.to_string()))
    }

    fn zeroize(&self, py: Python<'_>) {
        py.detach(|| self.0.zeroize());
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.0.stop());
    }
}
