//! Many requests in flight on one connection: published at once, answered in any order.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use casemate_transport::client::{Connection, Request, SubmitError};
use casemate_transport::layout::{BULK_BYTES, SLOT_COUNT};
use casemate_transport::message::{Operation, RequestHeader};
use common::{Client, Module, policy};
use cryptoki_sys::*;

fn digest(session: u64, data: &[u8]) -> Request<'_> {
    Request {
        header: RequestHeader {
            operation: Operation::Digest as u16,
            mechanism: CKM_SHA256,
            session,
            capacity: 32,
            ..RequestHeader::default()
        },
        data,
        ..Request::default()
    }
}

#[test]
fn a_batch_is_answered_in_its_own_order() {
    let module = Module::start();
    let (_, path) = module.partition("batches", policy());
    let client = Client::open(&path);
    let messages: Vec<[u8; 40]> = (0..200u8).map(|number| [number; 40]).collect();
    let requests: Vec<_> = messages.iter().map(|m| digest(client.session, m)).collect();
    let alone: Vec<Vec<u8>> = requests
        .iter()
        .map(|request| {
            let keep = |_, output: &[u8]| output.to_vec();
            let mut patience = Connection::patience();
            client
                .connection
                .call(request, &mut patience, keep)
                .unwrap()
        })
        .collect();
    let mut patience = Connection::patience();
    let mut together = Vec::new();
    let mut begun = 0;
    while begun < requests.len() {
        let mut tickets = Vec::new();
        let count = client
            .connection
            .submit_many(&requests[begun..], &mut tickets)
            .unwrap();
        assert_eq!(count, tickets.len());
        assert_eq!(count, SLOT_COUNT.min(requests.len() - begun));
        client
            .connection
            .wait_many(tickets, &mut patience, |place, header, output| {
                assert_eq!((header.result, begun + place), (CKR_OK, together.len()));
                together.push(output.to_vec());
            })
            .unwrap();
        begun += count;
    }
    assert_eq!(together, alone);
}

#[test]
fn what_cannot_be_carried_ends_a_batch_where_it_stands() {
    let module = Module::start();
    let (_, path) = module.partition("batches", policy());
    let client = Client::open(&path);
    let large = vec![0; BULK_BYTES + 1];
    let requests = [
        digest(client.session, b"one"),
        digest(client.session, b"two"),
        digest(client.session, &large),
        digest(client.session, b"four"),
    ];
    let mut tickets = Vec::new();
    let count = client.connection.submit_many(&requests, &mut tickets);
    assert_eq!((count, tickets.len()), (Ok(2), 2));
    let mut patience = Connection::patience();
    let mut answers = 0;
    client
        .connection
        .wait_many(tickets, &mut patience, |_, header, output| {
            assert_eq!((header.result, output.len()), (CKR_OK, 32));
            answers += 1;
        })
        .unwrap();
    assert_eq!(answers, 2);
    let mut tickets = Vec::new();
    let refused = client.connection.submit_many(&requests[2..], &mut tickets);
    assert_eq!(refused, Err(SubmitError::TooLarge));
    assert!(tickets.is_empty());
}

#[test]
fn threads_share_the_slots_of_a_connection() {
    let module = Module::start();
    let (_, path) = module.partition("batches", policy());
    let client = Client::open(&path);
    let (public, private) = client.generate(false);
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let client = &client;
            scope.spawn(move || {
                let messages: Vec<[u8; 32]> = (0..24).map(|round| [thread ^ round; 32]).collect();
                let requests: Vec<_> = messages
                    .iter()
                    .map(|message| Request {
                        header: RequestHeader {
                            operation: Operation::Sign as u16,
                            mechanism: CKM_ECDSA,
                            session: client.session,
                            object: private,
                            capacity: 64,
                            ..RequestHeader::default()
                        },
                        data: message,
                        ..Request::default()
                    })
                    .collect();
                let mut patience = Connection::patience();
                for _ in 0..10 {
                    let mut begun = 0;
                    while begun < requests.len() {
                        let mut tickets = Vec::new();
                        let rest = &requests[begun..];
                        let count = client.connection.submit_many(rest, &mut tickets).unwrap();
                        let mut signatures = Vec::new();
                        client
                            .connection
                            .wait_many(tickets, &mut patience, |_, header, output| {
                                assert_eq!(header.result, CKR_OK);
                                signatures.push(output.to_vec());
                            })
                            .unwrap();
                        for (message, signature) in messages[begun..].iter().zip(&signatures) {
                            assert_eq!(client.verify(public, message, signature), CKR_OK);
                        }
                        begun += count;
                    }
                }
            });
        }
    });
}
