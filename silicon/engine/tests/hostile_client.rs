//! Clients that keep no rule. In each test a partition is attacked through its own socket, and a
//! client of another partition must notice nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use casemate_transport::handshake::{HELLO_BYTES, Hello, Refusal, send_with_descriptors};
use casemate_transport::layout::{PROTOCOL_VERSION, SLOT_COUNT, SLOT_PAYLOAD};
use casemate_transport::message::{Operation, RequestHeader, encode_attribute};
use common::hostile::{Chaos, Hostile};
use common::{Client, Module, descriptors, eventually, mapped, policy};
use cryptoki_sys::*;

/// Descriptors and mappings are counted for the process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the other threads of a test, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs the attack while a client of another partition signs; its operations all succeed, and it
/// gets some done.
fn with_a_witness(module: &Module, attack: impl FnOnce()) {
    let (_, path) = module.partition("witness", policy());
    let client = Client::open(&path);
    let (public, private) = client.generate(false);
    let stop = AtomicBool::new(false);
    let (done, slowest) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0u8;
            while !stop.load(Ordering::Relaxed) {
                round = round.wrapping_add(1);
                let begin = Instant::now();
                let (answer, signature) = client.sign(private, &[round; 32]);
                assert_eq!(answer.result, CKR_OK);
                assert_eq!(client.verify(public, &[round; 32], &signature), CKR_OK);
                let taken = begin.elapsed().as_micros() as u64;
                slowest.fetch_max(taken, Ordering::Relaxed);
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _stop = Stop(&stop);
        attack();
        eventually("the witness signs", || done.load(Ordering::Relaxed) > 20);
    });
    assert!(
        slowest.load(Ordering::Relaxed) < 2_000_000,
        "the witness waited"
    );
}

/// Runs `attack`, then waits until descriptors and mappings are what they were.
fn without_a_leak(attack: impl FnOnce()) {
    // A worker may still have what an earlier client left.
    let mut before = (descriptors(), mapped());
    eventually("what was there before stands still", || {
        std::thread::sleep(Duration::from_millis(20));
        let now = (descriptors(), mapped());
        std::mem::replace(&mut before, now) == now
    });
    attack();
    eventually("no descriptor and no mapping is left behind", || {
        (descriptors(), mapped()) == before
    });
}

fn generate(hostile: &mut Hostile, session: u64, mechanism: u64, oid: &[u8]) -> (u64, u64) {
    let mut public = Vec::new();
    encode_attribute(&mut public, CKA_EC_PARAMS, oid);
    let mut private = Vec::new();
    encode_attribute(&mut private, CKA_SIGN, &[1]);
    hostile.write(1, 0, &public);
    hostile.write(1, 64, &private);
    let header = RequestHeader {
        operation: Operation::GenerateKeyPair as u16,
        session,
        mechanism,
        first: public.len() as u16,
        data: private.len() as u32,
        ..RequestHeader::default()
    };
    let sequence = hostile.submit(1, header);
    let answer = hostile.answer(1, sequence);
    assert_eq!(answer.result, CKR_OK);
    (answer.value0, answer.value1)
}

/// Signs again and again while another thread flips the last byte of the message in place. Each
/// signature must be one of the two messages'; returns the distinct ones by message.
fn sign_while_flipping(
    hostile: &mut Hostile,
    request: RequestHeader,
    message: &[u8],
    rounds: usize,
    verify: impl Fn(&[u8], &[u8]) -> bool,
) -> [BTreeSet<Vec<u8>>; 2] {
    let other = {
        let mut other = message.to_vec();
        *other.last_mut().unwrap() ^= 0xFF;
        other
    };
    let mut seen = [BTreeSet::new(), BTreeSet::new()];
    let stop = AtomicBool::new(false);
    let place = hostile.ring.payload(2).expose_provenance() + message.len() - 1;
    let (one, two) = (message[message.len() - 1], other[message.len() - 1]);
    hostile.write(2, 0, message);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let byte = std::ptr::with_exposed_provenance_mut::<u8>(place);
            while !stop.load(Ordering::Relaxed) {
                for value in [one, two] {
                    // SAFETY: a byte of the ring, which outlives the scope.
                    unsafe { byte.write_volatile(value) };
                    for _ in 0..50 {
                        std::hint::spin_loop();
                    }
                }
            }
        });
        let _stop = Stop(&stop);
        for round in 0..20 * rounds {
            // On a busy machine the other thread may need longer until it has hit.
            if round >= rounds && seen.iter().all(|signatures| !signatures.is_empty()) {
                break;
            }
            hostile.write(2, 0, &message[..message.len() - 1]);
            let sequence = hostile.submit(2, request);
            let answer = hostile.answer(2, sequence);
            assert_eq!(answer.result, CKR_OK);
            // The flipping byte may lie in the output: the module's copy is what counts, so it is
            // verified for both values.
            let signature = hostile.read(2, 0, answer.output as usize);
            let matches = [message, &other].map(|m| verify(m, &signature));
            assert!(matches.contains(&true), "a signature of neither message");
            seen[usize::from(!matches[0])].insert(signature);
        }
    });
    seen
}

const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];

/// Verifies through the module itself, in slots that nobody flips.
fn verifier(
    hostile: &Mutex<Hostile>,
    session: u64,
    key: u64,
    mechanism: u64,
) -> impl Fn(&[u8], &[u8]) -> bool {
    move |message, signature| {
        let mut hostile = hostile.lock().unwrap();
        let start = signature.len().next_multiple_of(64);
        hostile.write(3, 0, signature);
        hostile.write(3, start, message);
        let header = RequestHeader {
            operation: Operation::Verify as u16,
            session,
            object: key,
            mechanism,
            first: signature.len() as u16,
            data: message.len() as u32,
            ..RequestHeader::default()
        };
        let sequence = hostile.submit(3, header);
        hostile.answer(3, sequence).result == CKR_OK
    }
}

#[test]
fn what_is_signed_does_not_change_while_it_is_signed() {
    let _alone = alone();
    let module = Module::start();
    let (_, path) = module.partition("attacked", policy());
    let mut attacker = Hostile::open(&path).unwrap();
    let session = attacker.session();

    // ECDSA over a digest. The public key is the attacker's own second connection's to use as well,
    // but session objects are visible to their connection only: verify on a token object.
    let mut checker = Hostile::open(&path).unwrap();
    let checking = checker.session();
    let honest = Client::open(&path);
    let (public, private) = honest.generate(true);
    let checker = Mutex::new(checker);
    let request = RequestHeader {
        operation: Operation::Sign as u16,
        session,
        object: private,
        mechanism: CKM_ECDSA,
        data: 80,
        capacity: 64,
        ..RequestHeader::default()
    };
    // A digest of 64 bytes would stand under the output; the flipped byte is behind it.
    let refused = attacker.submit(2, request);
    assert_eq!(attacker.answer(2, refused).result, CKR_DATA_LEN_RANGE);
    let request = RequestHeader {
        data: 32,
        ..request
    };
    let verify = verifier(&checker, checking, public, CKM_ECDSA);
    let digest = [7u8; 32];
    let other = {
        let mut d = digest;
        d[31] ^= 0xFF;
        d
    };
    let stop = AtomicBool::new(false);
    let place = attacker.ring.payload(2).expose_provenance() + 31;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let byte = std::ptr::with_exposed_provenance_mut::<u8>(place);
            while !stop.load(Ordering::Relaxed) {
                // SAFETY: a byte of the ring, which outlives the scope.
                unsafe {
                    byte.write_volatile(digest[31]);
                    byte.write_volatile(other[31]);
                }
            }
        });
        let _stop = Stop(&stop);
        for _ in 0..60 {
            attacker.write(2, 0, &digest);
            let sequence = attacker.submit(2, request);
            assert_eq!(attacker.answer(2, sequence).result, CKR_OK);
            // The output lies over the flipped byte: any of 256 values may be the module's.
            let mut signature = attacker.read(2, 0, 64);
            let right = (0..=255u8).any(|value| {
                signature[31] = value;
                verify(&digest, &signature) || verify(&other, &signature)
            });
            assert!(right, "a signature of neither digest");
        }
    });

    // Ed25519 reads its message twice: it must read a copy.
    let (public, private) = {
        let mut template = Vec::new();
        encode_attribute(&mut template, CKA_TOKEN, &[1]);
        encode_attribute(&mut template, CKA_EC_PARAMS, ED25519);
        let mut private = Vec::new();
        encode_attribute(&mut private, CKA_TOKEN, &[1]);
        let header = RequestHeader {
            operation: Operation::GenerateKeyPair as u16,
            mechanism: CKM_EC_EDWARDS_KEY_PAIR_GEN,
            ..RequestHeader::default()
        };
        let (answer, _) = honest.call(header, &template, &private);
        assert_eq!(answer.result, CKR_OK);
        (answer.value0, answer.value1)
    };
    let message = vec![0x5A; 16_000];
    let request = RequestHeader {
        operation: Operation::Sign as u16,
        session,
        object: private,
        mechanism: CKM_EDDSA,
        data: message.len() as u32,
        capacity: 64,
        ..RequestHeader::default()
    };
    let verify = verifier(&checker, checking, public, CKM_EDDSA);
    let seen = sign_while_flipping(&mut attacker, request, &message, 300, verify);
    assert!(
        seen.iter().all(|signatures| signatures.len() <= 1),
        "deterministic"
    );
    if let (Some(first), Some(second)) = (seen[0].first(), seen[1].first()) {
        // Two messages under one nonce would give the private key away.
        assert_ne!(first[..32], second[..32]);
    }
    assert!(
        !seen[0].is_empty() && !seen[1].is_empty(),
        "the flipping never hit"
    );
}

/// Operations that mean long work or the end of what the test needs.
const LEFT_OUT: &[u16] = &[
    Operation::GenerateKeyPair as u16,
    Operation::CloseAllSessions as u16,
    Operation::InitToken as u16,
];

#[test]
fn garbage_in_every_field_is_answered_and_harms_nobody() {
    let _alone = alone();
    let module = Module::start();
    let (partition, path) = module.partition("attacked", policy());
    with_a_witness(&module, || {
        without_a_leak(|| {
            let mut hostile = Hostile::open(&path).unwrap();
            let session = hostile.session();
            let (_, key) = generate(&mut hostile, session, CKM_EC_KEY_PAIR_GEN, P256);
            let _region = hostile.bulk().unwrap();
            let mut chaos = Chaos::new(0xCA5E);
            let end = Instant::now() + Duration::from_secs(2);
            let mut answered = 0;
            while Instant::now() < end {
                let mut waiting = Vec::new();
                for slot in 0..SLOT_COUNT as u32 {
                    let header = random_request(&mut chaos, session, key);
                    let noise = chaos.bytes(256);
                    hostile.write(slot, 0, &noise);
                    let sequence = hostile.submit(slot, header);
                    waiting.push((slot, sequence));
                }
                // Words that are the module's to write, or nobody's.
                for _ in 0..8 {
                    let slot = chaos.below(64) as u32;
                    hostile
                        .ring
                        .waiting(slot)
                        .store(chaos.next() as u32, Ordering::Relaxed);
                }
                hostile.ring_bell();
                for (slot, sequence) in waiting {
                    hostile.answer(slot, sequence);
                    answered += 1;
                }
            }
            assert!(answered > 1000, "only {answered} answers");
        });
        // The attacked partition itself serves as well.
        let client = Client::open(&path);
        let (_, key) = client.generate(false);
        assert_eq!(client.sign(key, &[1; 32]).0.result, CKR_OK);
    });
    eventually("no session is left", || partition.session_count() == 0);
}

fn random_request(chaos: &mut Chaos, session: u64, key: u64) -> RequestHeader {
    let mut pick = |good: u64, most: u64| match chaos.below(4) {
        0 => chaos.next(),
        1 => chaos.below(most),
        _ => good,
    };
    let mechanisms = [
        CKM_ECDSA,
        CKM_ECDSA_SHA256,
        CKM_AES_GCM,
        CKM_SHA256,
        CKM_SHA256_HMAC,
        CKM_AES_CBC_PAD,
        CKM_EDDSA,
        CKM_RSA_PKCS_OAEP,
        CKM_AES_KEY_WRAP_KWP,
        CKM_ECDH1_DERIVE,
        CKM_HKDF_DERIVE,
        CKM_SP800_108_COUNTER_KDF,
        CKM_GENERIC_SECRET_KEY_GEN,
        CKM_AES_KEY_GEN,
    ];
    let mechanism = mechanisms[pick(0, u64::MAX) as usize % mechanisms.len()];
    let mut header = RequestHeader {
        operation: pick(Operation::Sign as u64, 70) as u16,
        flags: pick(0, 4) as u16,
        region: pick(0, 10) as u16,
        parameters: pick(0, 64) as u16,
        session: pick(session, 10),
        object: pick(key, 10),
        mechanism: pick(mechanism, 0x2000),
        aux: pick(1, 16),
        first: pick(0, 300) as u16,
        second: pick(0, 300) as u16,
        data: pick(32, 20_000) as u32,
        capacity: pick(64, 20_000) as u32,
        sequence: 0,
    };
    if LEFT_OUT.contains(&header.operation) {
        header.operation = Operation::Noop as u16;
    }
    header
}

#[test]
fn pending_bits_out_of_the_blue_are_harmless() {
    let _alone = alone();
    let module = Module::start();
    let (_, path) = module.partition("attacked", policy());
    with_a_witness(&module, || {
        without_a_leak(|| {
            let hostile = Hostile::open(&path).unwrap();
            let end = Instant::now() + Duration::from_secs(1);
            let mut chaos = Chaos::new(3);
            while Instant::now() < end {
                hostile
                    .ring
                    .pending()
                    .store(chaos.next(), Ordering::Relaxed);
                let slot = chaos.below(64) as u32;
                hostile
                    .ring
                    .answered(slot)
                    .store(chaos.next() as u32, Ordering::Relaxed);
                hostile.ring_bell();
            }
        });
    });
}

#[test]
fn a_full_bell_is_the_attackers_own_loss() {
    let _alone = alone();
    let module = Module::start();
    let (_, path) = module.partition("attacked", policy());
    with_a_witness(&module, || {
        let mut hostile = Hostile::open(&path).unwrap();
        let session = hostile.session();
        let mut drained = [0; 8];
        let _ = (&hostile.bell).read(&mut drained);
        (&hostile.bell)
            .write_all(&(u64::MAX - 1).to_ne_bytes())
            .unwrap();
        assert!((&hostile.bell).write(&1u64.to_ne_bytes()).is_err());
        (&hostile.bell).read_exact(&mut drained).unwrap();
        let header = RequestHeader {
            operation: Operation::SessionInfo as u16,
            session,
            ..RequestHeader::default()
        };
        let sequence = hostile.submit(0, header);
        hostile.ring_bell();
        assert_eq!(hostile.answer(0, sequence).result, CKR_OK);
        // Ending the partition does not wait for anything that the client holds.
        let _ = (&hostile.bell).read(&mut drained);
        (&hostile.bell)
            .write_all(&(u64::MAX - 1).to_ne_bytes())
            .unwrap();
    });
}

#[test]
fn clients_that_die_at_any_step_leave_nothing_behind() {
    let _alone = alone();
    let module = Module::start();
    let (partition, path) = module.partition("attacked", policy());
    // The workers and their bell stay once they have started.
    drop(Client::open(&path));
    eventually("the first client is gone", || {
        partition.connections().is_empty()
    });
    with_a_witness(&module, || {
        without_a_leak(|| {
            for round in 0..60usize {
                // Before the hello, and within it.
                let mut socket = UnixStream::connect(&path).unwrap();
                let hello = Hello::default().encode();
                let _ = socket.write_all(&hello[..round % HELLO_BYTES]);
                drop(socket);
                // After it, before the welcome.
                let mut socket = UnixStream::connect(&path).unwrap();
                let _ = socket.write_all(&hello);
                drop(socket);
                // With the rings, and after a request that nobody will read.
                let mut hostile = open_patiently(&path);
                let session = hostile.session();
                let (_, key) = generate(&mut hostile, session, CKM_EC_KEY_PAIR_GEN, P256);
                if round % 2 == 0 {
                    let _region = hostile.bulk();
                }
                for slot in 0..64 {
                    let header = RequestHeader {
                        operation: Operation::Sign as u16,
                        session,
                        object: key,
                        mechanism: CKM_ECDSA,
                        data: 32,
                        capacity: 64,
                        ..RequestHeader::default()
                    };
                    hostile.submit(slot, header);
                }
                // Half a bulk message.
                let _ = (&hostile.socket).write_all(&[1; 7]);
                drop(hostile);
            }
        });
    });
    assert!(partition.connections().is_empty());
    assert_eq!(partition.session_count(), 0);
    assert!(partition.objects().is_empty());
}

/// Connections of dead clients may still be on their way out: the quota counts them.
fn open_patiently(path: &Path) -> Hostile {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match Hostile::open(path) {
            Ok(hostile) => return hostile,
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Quota);
                assert!(Instant::now() < end);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

#[test]
fn thousands_of_connections_meet_the_quota_and_leave_the_others_alone() {
    let _alone = alone();
    let module = Module::start();
    let (partition, path) = module.partition("attacked", policy());
    with_a_witness(&module, || {
        without_a_leak(|| {
            // Silent ones: the oldest are turned away, so that a peer that speaks gets in.
            let silent: Vec<_> = (0..2000)
                .map(|_| UnixStream::connect(&path).unwrap())
                .collect();
            drop(Client::open(&path));
            drop(silent);
            eventually("the client is gone", || partition.connections().is_empty());
            let mut held = Vec::new();
            let refusal = loop {
                match Hostile::open(&path) {
                    Ok(hostile) => held.push(hostile),
                    Err(refusal) => break refusal,
                }
            };
            assert_eq!(refusal, Refusal::Quota);
            assert_eq!(held.len(), 64);
            for _ in 0..500 {
                assert_eq!(Hostile::open(&path).err(), Some(Refusal::Quota));
            }
            partition.workers.stop(&partition);
        });
    });
}

#[test]
fn descriptors_from_clients_do_not_stay() {
    let _alone = alone();
    let module = Module::start();
    let (partition, path) = module.partition("attacked", policy());
    drop(Client::open(&path));
    eventually("the client is gone", || partition.connections().is_empty());
    with_a_witness(&module, || {
        without_a_leak(|| {
            let file = std::fs::File::open("/dev/null").unwrap();
            for round in 0..100u8 {
                let socket = UnixStream::connect(&path).unwrap();
                let hello = Hello::default().encode();
                let bytes = if round % 2 == 0 {
                    &hello[..]
                } else {
                    &hello[..5]
                };
                // Refused by the kernel where it can be told so; closed unseen elsewhere.
                let _ = send_with_descriptors(&socket, bytes, &[file.as_raw_fd()]);
            }
        });
    });
}

#[test]
fn hellos_that_are_none_are_refused_by_name() {
    let _alone = alone();
    let module = Module::start();
    let (_, path) = module.partition("attacked", policy());
    let answer = |hello: [u8; HELLO_BYTES]| {
        let mut socket = UnixStream::connect(&path).unwrap();
        socket.write_all(&hello).unwrap();
        let mut welcome = [0; 128];
        socket.read_exact(&mut welcome).unwrap();
        u16::from_le_bytes([welcome[4], welcome[5]])
    };
    assert_eq!(answer([0; HELLO_BYTES]), Refusal::Malformed as u16);
    let old = Hello {
        minimum: 0,
        maximum: 0,
    };
    assert_eq!(answer(old.encode()), Refusal::Version as u16);
    let new = Hello {
        minimum: PROTOCOL_VERSION + 1,
        maximum: 9,
    };
    assert_eq!(answer(new.encode()), Refusal::Version as u16);
}

#[test]
fn a_partition_ends_under_fire() {
    let _alone = alone();
    let module = Module::start();
    let (partition, path) = module.partition("attacked", policy());
    with_a_witness(&module, || {
        let mut hostile = Hostile::open(&path).unwrap();
        let session = hostile.session();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut chaos = Chaos::new(9);
                while !stop.load(Ordering::Relaxed) {
                    let slot = chaos.below(64) as u32;
                    hostile.write(slot, 0, &chaos.bytes(SLOT_PAYLOAD.min(512)));
                    let header = random_request(&mut chaos, session, 1);
                    hostile.submit(slot, header);
                }
            });
            let _stop = Stop(&stop);
            std::thread::sleep(Duration::from_millis(200));
            let begin = Instant::now();
            module.engine.close_partition(&partition.id);
            assert!(begin.elapsed() < Duration::from_secs(2));
        });
    });
    assert!(partition.objects().is_empty());
}
