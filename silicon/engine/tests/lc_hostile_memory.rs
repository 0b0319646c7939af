//! What may run directly on memory that a client changes reads each of its bytes once.
//!
//! One byte of the input flips between two values while operations run on it. Whatever an operation
//! gives must be what one of the two inputs gives: a byte that was read twice, once each way, would
//! give something else. That the flips do arrive in between shows a control that reads twice.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use casemate_engine::lc::aes::{AesKey, Direction};
use casemate_engine::lc::cmac::CmacKey;
use casemate_engine::lc::digest::{Hash, digest};
use casemate_engine::lc::gcm::{AesGcm, TAG};
use casemate_engine::lc::hmac::HmacKey;
use casemate_engine::lc::xts::XtsKey;
use casemate_engine::lc::{Error, Input, Output};

/// How long each operation is tried, and how often at most.
const TRIAL: Duration = Duration::from_millis(150);
const TIMES: usize = 4000;
/// An odd length, so that ends are not whole blocks; blocks only where the mode needs them.
const LENGTH: usize = 1021;
const WHOLE: usize = 1024;

type Operation = Box<dyn Fn(Input<'_>) -> Result<Vec<u8>, Error>>;

fn with_output(
    capacity: usize,
    body: impl FnOnce(&mut Output<'_>) -> Result<(), Error>,
) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0; capacity];
    let mut output = Output::new(&mut buffer);
    body(&mut output)?;
    let written = output.written();
    buffer.truncate(written);
    Ok(buffer)
}

/// Name, length of input, operation.
fn operations() -> Vec<(String, usize, Operation)> {
    let mut all: Vec<(String, usize, Operation)> = Vec::new();
    for hash in [Hash::Sha1, Hash::Sha256, Hash::Sha512, Hash::Sha3_256] {
        let of = move |input: Input<'_>| Ok(digest(hash, input)?.to_vec());
        all.push((format!("digest {hash:?}"), LENGTH, Box::new(of)));
        let key = HmacKey::new(hash, &[1; 32]).unwrap();
        let of = move |input: Input<'_>| Ok(key.mac(input)?.to_vec());
        all.push((format!("HMAC {hash:?}"), LENGTH, Box::new(of)));
    }
    let key = CmacKey::new(&[1; 32]).unwrap();
    let of = move |input: Input<'_>| Ok(key.mac(input)?.to_vec());
    all.push(("CMAC".into(), LENGTH, Box::new(of)));
    let key = AesGcm::new(&[1; 32]).unwrap();
    let of = move |input: Input<'_>| {
        with_output(input.len() + TAG, |output| {
            key.encrypt(&[2; 12], b"associated", input, output, TAG)
        })
    };
    all.push(("GCM encryption".into(), LENGTH, Box::new(of)));
    for direction in [Direction::Encrypt, Direction::Decrypt] {
        let aes = || AesKey::new(&[1; 32]).unwrap();
        let key = aes();
        let of = move |input: Input<'_>| {
            with_output(input.len(), |output| key.ecb(direction, input, output))
        };
        all.push((format!("ECB {direction:?}"), WHOLE, Box::new(of)));
        let key = aes();
        let of = move |input: Input<'_>| {
            with_output(input.len(), |output| {
                key.cbc(direction, &[3; 16], input, output)
            })
        };
        all.push((format!("CBC {direction:?}"), WHOLE, Box::new(of)));
        let mut halves = [1; 64];
        halves[0] = 2;
        let key = XtsKey::new(&halves).unwrap();
        let of = move |input: Input<'_>| {
            with_output(input.len(), |output| {
                key.unit(direction, &[3; 16], input, output)
            })
        };
        all.push((format!("XTS {direction:?}"), LENGTH, Box::new(of)));
    }
    let key = AesKey::new(&[1; 32]).unwrap();
    let of = move |input: Input<'_>| {
        with_output(input.len() + 16, |output| {
            key.cbc_padded(Direction::Encrypt, &[3; 16], input, output)
        })
    };
    all.push(("CBC with padding".into(), LENGTH, Box::new(of)));
    let key = AesKey::new(&[1; 32]).unwrap();
    let of = move |input: Input<'_>| {
        with_output(input.len(), |output| {
            key.ctr(&[0xff; 16], 32, input, output)
        })
    };
    all.push(("CTR".into(), LENGTH, Box::new(of)));
    all
}

/// Runs the operation on memory whose byte `at` flips; returns what it gave, and what the two inputs
/// give when they hold still.
fn race(
    length: usize,
    at: usize,
    operation: &Operation,
    times: usize,
    mut each: impl FnMut(&[u8], &[Vec<u8>; 2]),
) {
    let memory: Vec<AtomicU8> = (0..length).map(|i| AtomicU8::new(i as u8)).collect();
    let still = [0, 0xff].map(|flip| {
        let mut bytes: Vec<u8> = (0..length).map(|i| i as u8).collect();
        bytes[at] ^= flip;
        operation(Input::new(&bytes)).unwrap()
    });
    let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            begun.store(true, Ordering::Relaxed);
            while !done.load(Ordering::Relaxed) {
                memory[at].fetch_xor(0xff, Ordering::Relaxed);
            }
        });
        // SAFETY: atomics have the layout of their bytes, and live until the scope ends.
        let input = unsafe { Input::from_raw(memory.as_ptr().cast(), length) };
        while !begun.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        let start = Instant::now();
        for _ in 0..times {
            each(&operation(input).unwrap(), &still);
            if start.elapsed() > TRIAL {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn each_byte_is_read_once() {
    for (name, length, operation) in operations() {
        for at in [0, length / 2, length - 1] {
            race(length, at, &operation, TIMES, |got, still| {
                assert!(
                    still.iter().any(|one| one == got),
                    "{name}: byte {at} of the input was read more than once"
                );
            });
        }
    }
}

/// The control: two readings in a row see the byte change.
#[test]
fn flips_arrive_between_two_readings() {
    let twice: Operation = Box::new(|input| Ok([input.to_vec(), input.to_vec()].concat()));
    let mut torn = 0;
    // On a loaded machine the other thread may not run at the same time at once.
    for _ in 0..50 {
        race(LENGTH, 7, &twice, usize::MAX, |got, still| {
            torn += usize::from(still.iter().all(|one| one != got));
        });
        if torn > 0 {
            return;
        }
    }
    panic!("no flip arrived between two readings: the other test shows nothing here");
}
