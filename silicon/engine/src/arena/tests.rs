use super::library::{PREFIX, lc_free, lc_malloc, lc_realloc};
use super::*;
use crate::lc::{Secret, ec};

fn ready() {
    install(false).unwrap();
}

#[test]
fn every_length_gets_a_block_that_holds_it() {
    for length in 0..=BLOCK_MAX {
        let class = class_for(length);
        assert!(size_of_class(class) >= length, "{length}");
        assert!(class == 0 || size_of_class(class - 1) < length, "{length}");
    }
    assert!(SIZES.iter().all(|size| size % 16 == 0));
}

#[test]
fn blocks_are_zero_and_apart_and_come_back() {
    ready();
    for length in [1, 16, 17, 100, 1000, 5000, 32768, 32769, 1 << 20] {
        let mut blocks: Vec<*mut u8> = (0..200).map(|_| allocate(length).unwrap()).collect();
        for block in &blocks {
            let bytes = unsafe { std::slice::from_raw_parts_mut(*block, length) };
            assert!(bytes.iter().all(|byte| *byte == 0));
            assert!(block.addr() % 16 == 0);
            bytes.fill(0xA5);
        }
        blocks.sort_unstable();
        assert!(
            blocks
                .windows(2)
                .all(|pair| pair[1].addr() - pair[0].addr() >= length)
        );
        for block in blocks {
            assert!(unsafe { free(block) });
        }
    }
}

#[test]
fn foreign_pointers_are_left_alone() {
    ready();
    let mut foreign = [1u8; 64];
    assert!(!unsafe { free(foreign.as_mut_ptr()) });
    assert_eq!(foreign, [1; 64]);
}

#[test]
fn blocks_may_be_freed_by_other_threads() {
    ready();
    let (send, receive) = std::sync::mpsc::sync_channel::<usize>(100);
    let maker = std::thread::spawn(move || {
        for round in 0..20_000usize {
            let block = allocate(16 + round % 500).unwrap();
            unsafe { block.write(7) };
            send.send(block.expose_provenance()).unwrap();
        }
    });
    let mut count = 0;
    for address in receive {
        let block = ptr::with_exposed_provenance_mut::<u8>(address);
        assert_eq!(unsafe { block.read() }, 7);
        assert!(unsafe { free(block) });
        count += 1;
    }
    maker.join().unwrap();
    assert_eq!(count, 20_000);
}

#[test]
fn keys_and_secrets_stand_in_the_arena() {
    ready();
    let report = report();
    assert!(report.library && report.kind.is_some());
    let secret = Secret::copy(&[9; 100]);
    assert!(class_at(secret.expose().as_ptr().addr()).is_some());
    let key = ec::PrivateKey::generate(ec::Curve::P256).unwrap();
    let mut signature = [0; 64];
    assert_eq!(key.sign(&[1; 32], &mut signature).unwrap(), 64);
    let scalar = key.scalar().unwrap();
    assert!(class_at(scalar.expose().as_ptr().addr()).is_some());
}

#[test]
fn a_resized_block_keeps_its_bytes() {
    ready();
    unsafe {
        let first = lc_malloc(20, ptr::null(), 0);
        first.cast::<[u8; 20]>().write([3; 20]);
        let second = lc_realloc(first, 70_000, ptr::null(), 0);
        assert_eq!(second.cast::<[u8; 20]>().read(), [3; 20]);
        let third = lc_realloc(second, 4, ptr::null(), 0);
        assert_eq!(third.cast::<[u8; 4]>().read(), [3; 4]);
        lc_free(third, ptr::null(), 0);
        // One that AWS-LC's own allocator made.
        let base = libc::malloc(PREFIX + 10);
        base.cast::<usize>().write(10);
        let old = base.byte_add(PREFIX);
        old.cast::<[u8; 10]>().write([4; 10]);
        let new = lc_realloc(old, 100, ptr::null(), 0);
        assert_eq!(new.cast::<[u8; 10]>().read(), [4; 10]);
        lc_free(new, ptr::null(), 0);
        lc_free(ptr::null_mut(), ptr::null(), 0);
    }
}

#[test]
fn a_forked_child_sees_nothing_and_frees_without_harm() {
    ready();
    let secret = Secret::copy(&[5; 64]);
    let address = secret.expose().as_ptr().addr();
    unsafe {
        let child = libc::fork();
        if child == 0 {
            // mincore fails with ENOMEM where nothing is mapped.
            let mut present = 0u8;
            let page = ptr::with_exposed_provenance_mut::<libc::c_void>(address & !4095);
            let mapped = libc::mincore(page, 4096, &mut present) == 0;
            drop(secret);
            let new = Secret::copy(&[6; 64]);
            let fine = !mapped && new.expose() == [6; 64];
            libc::_exit(if fine { 0 } else { 1 });
        }
        let mut status = 0;
        libc::waitpid(child, &mut status, 0);
        assert_eq!(status, 0);
    }
    assert_eq!(secret.expose(), [5; 64]);
}
