//! Messages that do not fit a slot: bulk regions from one byte too many up to 16 MiB, and what of
//! them may change while the module reads.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::undocumented_unsafe_blocks
)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use casemate_engine::lc::digest::{Hash, digest};
use casemate_engine::lc::{Input, hmac};
use casemate_transport::client::{Request, SubmitError};
use casemate_transport::layout::{BULK_REGIONS, MESSAGE_MAX, SLOT_PAYLOAD};
use casemate_transport::message::{Operation, RequestHeader, encode_attribute};
use common::hostile::{Chaos, Hostile};
use common::{Client, Module, policy};
use cryptoki_sys::*;

fn digest_request(capacity: u32) -> RequestHeader {
    RequestHeader {
        operation: Operation::Digest as u16,
        mechanism: CKM_SHA256,
        capacity,
        ..RequestHeader::default()
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(Hash::Sha256, Input::new(bytes)).unwrap().to_vec()
}

fn hmac_key(client: &Client, value: &[u8]) -> u64 {
    let mut template = Vec::new();
    encode_attribute(&mut template, CKA_CLASS, &CKO_SECRET_KEY.to_le_bytes());
    encode_attribute(
        &mut template,
        CKA_KEY_TYPE,
        &CKK_GENERIC_SECRET.to_le_bytes(),
    );
    encode_attribute(&mut template, CKA_SIGN, &[1]);
    encode_attribute(&mut template, CKA_VALUE, value);
    let header = RequestHeader {
        operation: Operation::CreateObject as u16,
        ..RequestHeader::default()
    };
    let (answer, _) = client.call(header, &[], &template);
    assert_eq!(answer.result, CKR_OK);
    answer.value0
}

#[test]
fn messages_of_every_magnitude_are_digested_and_authenticated() {
    let module = Module::start();
    let (_, path) = module.partition("bulk", policy());
    let client = Client::open(&path);
    let key = hmac_key(&client, b"Jefe and thirty more bytes of it");
    let mut chaos = Chaos::new(1);
    let edges = [0, 1, SLOT_PAYLOAD - 1, SLOT_PAYLOAD, SLOT_PAYLOAD + 1];
    let large = [100_000, 1 << 20, MESSAGE_MAX - 1, MESSAGE_MAX];
    for length in edges.into_iter().chain(large) {
        let message = chaos.bytes(length);
        let (answer, output) = client.call(digest_request(32), &[], &message);
        assert_eq!(
            (answer.result, output),
            (CKR_OK, sha256(&message)),
            "{length}"
        );
        let header = RequestHeader {
            operation: Operation::Sign as u16,
            mechanism: CKM_SHA256_HMAC,
            object: key,
            capacity: 32,
            ..RequestHeader::default()
        };
        let (answer, output) = client.call(header, &[], &message);
        assert_eq!(answer.result, CKR_OK);
        assert_eq!(
            output,
            hmac::sha256(b"Jefe and thirty more bytes of it", &message)
        );
    }
    let too_long = vec![0; MESSAGE_MAX + 128 * 1024];
    let request = Request {
        header: digest_request(32),
        data: &too_long,
        ..Request::default()
    };
    assert_eq!(
        client.connection.submit(&request).unwrap_err(),
        SubmitError::TooLarge
    );
}

#[test]
fn regions_are_shared_by_threads_and_bounded() {
    let module = Module::start();
    let (partition, path) = module.partition("bulk", policy());
    let client = Client::open(&path);
    std::thread::scope(|scope| {
        for seed in 0..4u64 {
            let client = &client;
            scope.spawn(move || {
                let mut chaos = Chaos::new(seed + 10);
                for _ in 0..20 {
                    let length = 20_000 + chaos.below(300_000) as usize;
                    let message = chaos.bytes(length);
                    let (answer, output) = client.call(digest_request(32), &[], &message);
                    assert_eq!((answer.result, output), (CKR_OK, sha256(&message)));
                }
            });
        }
    });
    let connection = partition.connections()[0].clone();
    assert!((1..=BULK_REGIONS).contains(&connection.bulk_count()));

    let hostile = Hostile::open(&path).unwrap();
    let held: Vec<_> = (0..BULK_REGIONS).map(|_| hostile.bulk().unwrap()).collect();
    assert!(
        hostile.bulk().is_none(),
        "beyond the number for a connection"
    );
    drop(held);
    let mut small = policy();
    small.mapped_bytes = partition.mapped_bytes() + 1000;
    partition.set_policy(small);
    let another = Hostile::open(&path).err();
    assert!(another.is_some(), "beyond the partition's mapped bytes");
}

#[test]
fn a_region_that_changes_is_read_once() {
    let module = Module::start();
    let (_, path) = module.partition("bulk", policy());
    let mut hostile = Hostile::open(&path).unwrap();
    let session = hostile.session();
    let region = hostile.bulk().unwrap();
    // 1 MiB of zeros whose last byte flips: a digest reads it in place, each byte once, so the
    // answer is one of two.
    let length = 1 << 20;
    let mut message = vec![0u8; length];
    let answers = [0u8, 0xFF].map(|value| {
        message[length - 1] = value;
        sha256(&message)
    });
    let base = region.base().expose_provenance();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let byte = std::ptr::with_exposed_provenance_mut::<u8>(base + length - 1);
            while !stop.load(Ordering::Relaxed) {
                unsafe {
                    byte.write_volatile(0);
                    byte.write_volatile(0xFF);
                }
            }
        });
        let mut outcomes = Vec::new();
        for _ in 0..100 {
            // The answer before stands where the message begins.
            unsafe { std::ptr::write_bytes(region.base(), 0, 64) };
            let header = RequestHeader {
                region: 1,
                session,
                data: length as u32,
                ..digest_request(32)
            };
            let sequence = hostile.submit(0, header);
            let answer = hostile.answer(0, sequence);
            let mut output = [0; 32];
            unsafe { std::ptr::copy_nonoverlapping(region.base(), output.as_mut_ptr(), 32) };
            outcomes.push(answer.result == CKR_OK && answers.iter().any(|a| *a == output));
        }
        stop.store(true, Ordering::Relaxed);
        assert!(outcomes.iter().all(|right| *right));
    });
}

#[test]
fn regions_that_are_not_there_are_refused() {
    let module = Module::start();
    let (_, path) = module.partition("bulk", policy());
    let mut hostile = Hostile::open(&path).unwrap();
    let session = hostile.session();
    for region in [1u16, 2, 8, 9, u16::MAX] {
        let header = RequestHeader {
            region,
            session,
            data: 1000,
            ..digest_request(32)
        };
        let sequence = hostile.submit(0, header);
        assert_eq!(hostile.answer(0, sequence).result, CKR_ARGUMENTS_BAD);
    }
    let _region = hostile.bulk().unwrap();
    for data in [MESSAGE_MAX as u32 + 65_537, u32::MAX] {
        let header = RequestHeader {
            region: 1,
            session,
            data,
            ..digest_request(32)
        };
        let sequence = hostile.submit(0, header);
        assert_eq!(hostile.answer(0, sequence).result, CKR_ARGUMENTS_BAD);
    }
}
