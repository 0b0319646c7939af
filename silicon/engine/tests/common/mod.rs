//! A module in this process: the engine, a firmware that keeps records in memory, sockets in a
//! folder of its own. Clients are what tests make of the transport.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use casemate_engine::control::{Record, RecordKey};
use casemate_engine::engine::Engine;
use casemate_engine::partition::{Partition, Policy};
use casemate_engine::sealing::SealingFile;
use casemate_transport::client::{Connection, Request};
use casemate_transport::message::{Operation, RequestHeader, ResponseHeader, encode_attribute};
use cryptoki_sys::*;

/// The everyday policy, generous and without PINs.
pub fn policy() -> Policy {
    Policy {
        pin_required: false,
        legacy_test: false,
        mechanisms: None,
        keys: 100_000,
        sessions: 1024,
        connections: 64,
        mapped_bytes: 1 << 30,
        workers: 2,
        weight: 100,
        spin: 200,
    }
}

pub mod hostile;

type Store = Arc<Mutex<BTreeMap<([u8; 16], RecordKey), Record>>>;

/// A running module.
pub struct Module {
    pub engine: Arc<Engine>,
    pub store: Store,
    folder: PathBuf,
    stop: Arc<AtomicBool>,
    firmware: Option<JoinHandle<()>>,
    secrets: Mutex<BTreeMap<[u8; 16], Vec<u8>>>,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Module {
    pub fn start() -> Self {
        casemate_engine::arena::install(false).unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("casemate-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let engine = Arc::new(Engine::new().unwrap());
        assert!(engine.self_test().iter().all(|test| test.passed));
        engine
            .unseal(&SealingFile::new(&folder.join("sealing"), true))
            .unwrap();
        let store = Store::default();
        let stop = Arc::new(AtomicBool::new(false));
        let firmware = {
            let (engine, store, stop) = (engine.clone(), store.clone(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    for change in engine.control().take(64, Duration::from_millis(20)) {
                        let root = change
                            .partition
                            .ledger
                            .seal_root([change.records.as_slice()].into_iter())
                            .unwrap();
                        let mut store = store.lock().unwrap();
                        for record in change.records.iter().chain([&root]) {
                            let key = (change.partition.id, record.key);
                            match record.blob {
                                Some(_) => store.insert(key, record.clone()),
                                None => store.remove(&key),
                            };
                        }
                        drop(store);
                        change.complete();
                    }
                }
            })
        };
        Self {
            engine,
            store,
            folder,
            stop,
            firmware: Some(firmware),
            secrets: Mutex::default(),
        }
    }

    /// Makes and serves a partition; its socket.
    pub fn partition(&self, name: &str, policy: Policy) -> (Arc<Partition>, PathBuf) {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let secret = self.engine.new_partition_secret(id).unwrap();
        self.secrets.lock().unwrap().insert(id, secret);
        self.open(id, name, policy, &[])
    }

    /// Opens a closed partition again from its records.
    pub fn reopened(
        &self,
        id: &[u8; 16],
        name: &str,
        records: &[Record],
    ) -> (Arc<Partition>, PathBuf) {
        std::fs::remove_file(self.folder.join(name)).unwrap();
        self.open(*id, name, policy(), records)
    }

    fn open(
        &self,
        id: [u8; 16],
        name: &str,
        policy: Policy,
        records: &[Record],
    ) -> (Arc<Partition>, PathBuf) {
        let secret = self.secrets.lock().unwrap().get(&id).unwrap().clone();
        let partition = self
            .engine
            .load_partition(id, name, policy, &secret, records)
            .unwrap();
        let path = self.folder.join(name);
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        self.engine.serve(&id, socket).unwrap();
        (partition, path)
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.engine.stop();
        if let Some(firmware) = self.firmware.take() {
            firmware.join().unwrap();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// An honest client with one session.
pub struct Client {
    pub connection: Connection,
    pub session: u64,
}

impl Client {
    pub fn open(path: &Path) -> Self {
        let connection = Connection::open(path).unwrap();
        let mut client = Self {
            connection,
            session: 0,
        };
        let open = RequestHeader {
            operation: Operation::OpenSession as u16,
            aux: 1,
            ..RequestHeader::default()
        };
        let (response, _) = client.call(open, &[], &[]);
        assert_eq!(response.result, CKR_OK);
        client.session = response.value0;
        client
    }

    pub fn call(
        &self,
        header: RequestHeader,
        first: &[u8],
        data: &[u8],
    ) -> (ResponseHeader, Vec<u8>) {
        let request = Request {
            header: RequestHeader {
                session: self.session,
                ..header
            },
            first,
            data,
            ..Request::default()
        };
        self.connection
            .call(&request, &mut Connection::patience(), |header, output| {
                (header, output.to_vec())
            })
            .unwrap()
    }

    /// A P-256 pair: handles of the public and the private key.
    pub fn generate(&self, token: bool) -> (u64, u64) {
        let mut public = Vec::new();
        encode_attribute(&mut public, CKA_TOKEN, &[u8::from(token)]);
        encode_attribute(
            &mut public,
            CKA_EC_PARAMS,
            &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
        );
        let mut private = Vec::new();
        encode_attribute(&mut private, CKA_TOKEN, &[u8::from(token)]);
        let header = RequestHeader {
            operation: Operation::GenerateKeyPair as u16,
            mechanism: CKM_EC_KEY_PAIR_GEN,
            ..RequestHeader::default()
        };
        let (response, _) = self.call(header, &public, &private);
        assert_eq!(response.result, CKR_OK);
        (response.value0, response.value1)
    }

    pub fn sign(&self, key: u64, digest: &[u8]) -> (ResponseHeader, Vec<u8>) {
        let header = RequestHeader {
            operation: Operation::Sign as u16,
            mechanism: CKM_ECDSA,
            object: key,
            capacity: 64,
            ..RequestHeader::default()
        };
        self.call(header, &[], digest)
    }

    pub fn verify(&self, key: u64, digest: &[u8], signature: &[u8]) -> u64 {
        let header = RequestHeader {
            operation: Operation::Verify as u16,
            mechanism: CKM_ECDSA,
            object: key,
            ..RequestHeader::default()
        };
        self.call(header, signature, digest).0.result
    }
}

/// Open descriptors of this process.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Bytes of address space that files and shared memory back.
pub fn mapped() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .filter(|line| line.contains("memfd:casemate-"))
        .count()
}

/// Waits until `done`, at most ten seconds.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not after ten seconds: {what}");
}
