//! AWS-LC's allocator: the arena, and after a fork the heap.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use super::{allocate, free, length_of, wipe};

/// Has AWS-LC allocate here from now on; false: it has an allocator of somebody else.
pub(super) fn take_over() -> bool {
    // SAFETY: the functions keep AWS-LC's contract, also for what it has allocated before.
    let done = unsafe {
        aws_lc_sys::CRYPTO_set_mem_functions(Some(lc_malloc), Some(lc_realloc), Some(lc_free))
    };
    done == 1
}

/// What AWS-LC's own allocator puts before a block: its size. Such blocks exist if AWS-LC allocated
/// before `install`, and after it they come here to be freed.
pub(super) const PREFIX: usize = 8;

pub(super) unsafe extern "C" fn lc_malloc(
    length: usize,
    _: *const c_char,
    _: c_int,
) -> *mut c_void {
    if let Some(block) = allocate(length) {
        return block.cast();
    }
    // A forked child: AWS-LC must go on working for what uses no keys.
    let Some(whole) = length.checked_add(PREFIX) else {
        return ptr::null_mut();
    };
    // SAFETY: plain allocation, with AWS-LC's own prefix, so that `lc_free` knows it.
    unsafe {
        let base = libc::malloc(whole);
        if base.is_null() {
            return base;
        }
        base.cast::<usize>().write(length);
        base.byte_add(PREFIX)
    }
}

pub(super) unsafe extern "C" fn lc_free(block: *mut c_void, _: *const c_char, _: c_int) {
    // SAFETY: AWS-LC frees what it got from `lc_malloc`, or from its own allocator before.
    unsafe {
        if block.is_null() || free(block.cast()) {
            return;
        }
        let base = block.byte_sub(PREFIX);
        let length = base.cast::<usize>().read();
        wipe(base.cast(), length + PREFIX);
        libc::free(base);
    }
}

pub(super) unsafe extern "C" fn lc_realloc(
    block: *mut c_void,
    length: usize,
    file: *const c_char,
    line: c_int,
) -> *mut c_void {
    // SAFETY: as in `lc_free`; both blocks hold at least the bytes that are copied.
    unsafe {
        let old = match length_of(block.cast()) {
            Some(old) => old,
            None => block.byte_sub(PREFIX).cast::<usize>().read(),
        };
        let new = lc_malloc(length, file, line);
        if !new.is_null() {
            ptr::copy_nonoverlapping(block.cast::<u8>(), new.cast::<u8>(), old.min(length));
            lc_free(block, file, line);
        }
        new
    }
}
