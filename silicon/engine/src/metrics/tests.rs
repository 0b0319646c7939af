use super::*;
use cryptoki_sys::{CKM_AES_GCM, CKM_ECDSA};

fn kind(operation: Operation, mechanism: u64) -> Kind {
    Kind {
        operation: operation as u16,
        mechanism,
    }
}

/// Every entry: area, operation, mechanism, requests, errors, nanoseconds.
fn read(metrics: &Metrics) -> Vec<(usize, u32, u32, u64, u64, u64)> {
    let mut entries = Vec::new();
    for area in 0..metrics.word32(head::USED).load(Ordering::Acquire) as usize {
        for index in 0..ENTRIES {
            let at = HEAD_BYTES + area * AREA_BYTES + index * ENTRY_BYTES;
            let operation = metrics
                .word32(at + entry::OPERATION)
                .load(Ordering::Acquire);
            if operation == 0 {
                break;
            }
            let count = |offset| metrics.word64(at + offset).load(Ordering::Relaxed);
            entries.push((
                area,
                operation,
                metrics
                    .word32(at + entry::MECHANISM)
                    .load(Ordering::Relaxed),
                (0..BUCKETS).map(|b| count(entry::BUCKETS + 8 * b)).sum(),
                count(entry::ERRORS),
                count(entry::NANOSECONDS),
            ));
        }
    }
    entries
}

#[test]
fn each_writer_has_an_area_and_the_next_one_goes_on_with_it() {
    let metrics = Arc::new(Metrics::new("web").unwrap());
    let sign = kind(Operation::Sign, CKM_ECDSA);
    let mut first = metrics.meter();
    let mut second = metrics.meter();
    first.record(sign, 1000, false);
    second.record(sign, 2000, true);
    drop(first);
    let mut third = metrics.meter();
    third.record(sign, 3000, false);
    third.record(kind(Operation::Noop, 0), 5, false);
    metrics.record_elsewhere(kind(Operation::Login, 0), 7, true);
    let mechanism = CKM_ECDSA as u32;
    assert_eq!(
        read(&metrics),
        [
            (0, 7, NO_MECHANISM, 1, 1, 7),
            (1, 32, mechanism, 2, 0, 4000),
            (1, 1, NO_MECHANISM, 1, 0, 5),
            (2, 32, mechanism, 1, 1, 2000),
        ]
    );
    assert_eq!(metrics.totals(), (5, 2));
}

#[test]
fn what_a_client_makes_up_has_no_label_of_its_own() {
    let metrics = Arc::new(Metrics::new("web").unwrap());
    let mut meter = metrics.meter();
    for number in 0..10_000u64 {
        meter.record(kind(Operation::Sign, 0x8000_0000 + number), 1, true);
        meter.record(kind(Operation::Noop, number), 1, false);
        let operation = 1000 + (number % 1000) as u16;
        meter.record(
            Kind {
                operation,
                mechanism: number,
            },
            1,
            true,
        );
    }
    let entries = read(&metrics);
    assert_eq!(entries.len(), 3);
    assert!(entries.iter().all(|entry| entry.3 == 10_000));
}

#[test]
fn more_kinds_than_entries_share_the_last_one() {
    let metrics = Arc::new(Metrics::new("web").unwrap());
    let mut meter = metrics.meter();
    let mut kinds = 0;
    for operation in [Operation::Sign, Operation::Verify, Operation::Check] {
        for mechanism in mechanisms::all().map(|mechanism| mechanism.kind()) {
            meter.record(kind(operation, mechanism), 1, false);
            kinds += 1;
        }
    }
    assert!(kinds > ENTRIES);
    let entries = read(&metrics);
    assert_eq!(entries.len(), ENTRIES);
    assert_eq!(entries[ENTRIES - 1].1, OTHERS);
    assert_eq!(metrics.totals().0, kinds as u64);
    // Who comes later finds them all again.
    drop(meter);
    let mut meter = metrics.meter();
    meter.record(kind(Operation::Sign, CKM_ECDSA), 1, false);
    meter.record(kind(Operation::WrapKey, CKM_AES_GCM), 1, false);
    assert_eq!(read(&metrics).len(), ENTRIES);
    assert_eq!(metrics.totals().0, kinds as u64 + 2);
}

#[test]
fn more_workers_than_areas_are_counted_all_the_same() {
    let metrics = Arc::new(Metrics::new("web").unwrap());
    let mut meters: Vec<_> = (0..AREAS + 3).map(|_| metrics.meter()).collect();
    for meter in &mut meters {
        meter.record(kind(Operation::Noop, 0), 1, false);
    }
    assert_eq!(metrics.totals(), (AREAS as u64 + 3, 0));
}

#[test]
fn cpu_time_of_threads_that_ended_stays() {
    let metrics = Arc::new(Metrics::new("web").unwrap());
    let work = metrics.clone();
    let worker = std::thread::spawn(move || {
        let _meter = work.meter();
        let begin = std::time::Instant::now();
        while begin.elapsed().as_millis() < 20 {}
    });
    worker.join().unwrap();
    let after = metrics.cpu_nanoseconds();
    assert!(after > 1_000_000, "{after}");
    assert_eq!(metrics.cpu_nanoseconds(), after);
}

#[test]
fn readers_cannot_write() {
    use std::os::fd::AsFd;
    let metrics = Metrics::new("web").unwrap();
    assert!(SharedMemory::open(metrics.descriptor.as_fd(), PAGE_BYTES, true).is_err());
    assert!(SharedMemory::open(metrics.descriptor.as_fd(), PAGE_BYTES, false).is_ok());
}
