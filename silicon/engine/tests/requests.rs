//! Which requests a worker takes: each once, by its number, found by its line or by its bit.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use casemate_transport::message::{Operation, RequestHeader};
use casemate_transport::protocol;
use common::hostile::Hostile;
use common::{Module, eventually, policy};
use cryptoki_sys::{CKM_SHA512, CKR_OK};

/// Short requests one after the other in one slot: the worker waits for the next at its line.
fn warmed(hostile: &mut Hostile) {
    for _ in 0..1_000 {
        let sequence = hostile.submit(0, RequestHeader::default());
        assert_eq!(hostile.answer(0, sequence).result, CKR_OK);
    }
}

fn publish_again(hostile: &Hostile, slot: u32) {
    if protocol::submit(hostile.ring.pending(), hostile.status.awake(), slot) {
        hostile.ring_bell();
    }
}

#[test]
fn a_request_that_is_published_again_is_not_served_again() {
    let module = Module::start();
    let (_, path) = module.partition("again", policy());
    let mut hostile = Hostile::open(&path).unwrap();
    for _ in 0..200 {
        // A session that is opened twice would be another one.
        let session = hostile.session();
        for _ in 0..10 {
            publish_again(&hostile, 0);
        }
        let sequence = hostile.submit(1, RequestHeader::default());
        hostile.answer(1, sequence);
        eventually("the bits are taken away", || {
            hostile.ring.pending().load(Ordering::Relaxed) == 0
        });
        assert_eq!(hostile.ring.read_response(0).value0, session);
        let close = RequestHeader {
            operation: Operation::CloseSession as u16,
            session,
            ..RequestHeader::default()
        };
        let sequence = hostile.submit(2, close);
        assert_eq!(hostile.answer(2, sequence).result, CKR_OK);
    }
}

#[test]
fn a_line_that_is_never_published_keeps_no_worker_awake() {
    let module = Module::start();
    let (_, path) = module.partition("unpublished", policy());
    let mut hostile = Hostile::open(&path).unwrap();
    let long = RequestHeader {
        operation: Operation::Digest as u16,
        session: hostile.session(),
        mechanism: CKM_SHA512,
        data: 16_384,
        capacity: 64,
        ..RequestHeader::default()
    };
    for slot in 0..4 {
        for number in 1..50 {
            // After long requests a worker goes by the bits alone.
            let odd = slot % 2 == 1;
            let request = if odd { long } else { RequestHeader::default() };
            let sequence = hostile.submit(slot, request);
            assert_eq!(hostile.answer(slot, sequence).result, CKR_OK);
            let unpublished = RequestHeader {
                sequence: u32::MAX - number,
                ..RequestHeader::default()
            };
            hostile.ring.write_request(slot, &unpublished);
        }
        eventually("the worker sleeps", || {
            hostile.status.awake().load(Ordering::Relaxed) == 0
        });
    }
    warmed(&mut hostile);
}

#[test]
fn who_follows_one_client_serves_others_too() {
    let module = Module::start();
    let (_, path) = module.partition("followed", policy());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (path, stop) = (&path, &stop);
        scope.spawn(move || {
            let mut busy = Hostile::open(path).unwrap();
            while !stop.load(Ordering::Relaxed) {
                warmed(&mut busy);
            }
        });
        let mut other = Hostile::open(path).unwrap();
        let mut slowest = Duration::ZERO;
        for slot in (0..64).cycle().take(2_000) {
            let begin = Instant::now();
            let sequence = other.submit(slot, RequestHeader::default());
            assert_eq!(other.answer(slot, sequence).result, CKR_OK);
            slowest = slowest.max(begin.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        assert!(slowest < Duration::from_secs(2), "one waited {slowest:?}");
    });
}
