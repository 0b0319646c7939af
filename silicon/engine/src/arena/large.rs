//! Blocks beyond `BLOCK_MAX`: mappings of their own, some of which wait, wiped, for the next message.

use std::collections::BTreeMap;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{FORKED, STATISTICS, lock, pages, wipe};

/// Larger blocks up to this are locked as well: the library's tables; beyond it stand messages.
const LARGE_LOCKED: usize = 1 << 20;
/// Bytes of mappings kept for the next message; they count against the limit of locked memory.
const SPARE_BYTES: usize = LARGE_LOCKED;

/// Blocks beyond `BLOCK_MAX`: their lengths, and whether they are locked.
static LARGE: Mutex<BTreeMap<usize, (usize, bool)>> = Mutex::new(BTreeMap::new());
/// Wiped mappings up to `LARGE_LOCKED` for the next message: start, length, whether it is locked.
static SPARE: Mutex<Vec<(usize, usize, bool)>> = Mutex::new(Vec::new());

/// Zeroed bytes, at least `length`.
pub(super) fn allocate(length: usize) -> Option<*mut u8> {
    // Few lengths, so that spare mappings fit.
    let rounded = if length <= LARGE_LOCKED {
        length.next_power_of_two()
    } else {
        length.checked_next_multiple_of(4096)?
    };
    let (base, locked) = match take_spare(rounded) {
        Some(spare) => spare,
        None => pages::map_large(rounded, rounded <= LARGE_LOCKED)?,
    };
    lock(&LARGE).insert(base.addr(), (rounded, locked));
    large_counter(locked).fetch_add(rounded as u64, Ordering::Relaxed);
    Some(base)
}

fn take_spare(length: usize) -> Option<(*mut u8, bool)> {
    let mut spare = lock(&SPARE);
    let index = spare.iter().position(|(_, long, _)| *long == length)?;
    let (base, _, locked) = spare.swap_remove(index);
    Some((ptr::with_exposed_provenance_mut(base), locked))
}

fn large_counter(locked: bool) -> &'static AtomicU64 {
    if locked {
        &STATISTICS.locked
    } else {
        &STATISTICS.large
    }
}

/// How many bytes stand behind a pointer of `allocate`; None: it is not from there.
pub(super) fn length_of(block: *mut u8) -> Option<usize> {
    lock(&LARGE).get(&block.addr()).map(|large| large.0)
}

/// Wipes, and keeps or unmaps. False: the pointer is not from `allocate`, and nothing was done.
pub(super) fn free(block: *mut u8) -> bool {
    if FORKED.load(Ordering::Relaxed) {
        // Another thread of the parent may have held the lock at the fork: then it is forgotten.
        return LARGE
            .try_lock()
            .map_or(true, |mut large| large.remove(&block.addr()).is_some());
    }
    let Some((length, locked)) = lock(&LARGE).remove(&block.addr()) else {
        return false;
    };
    large_counter(locked).fetch_sub(length as u64, Ordering::Relaxed);
    // SAFETY: a mapping of our own of this length, and its owner gives it up.
    unsafe { wipe(block, length) };
    if length <= LARGE_LOCKED {
        let mut spare = lock(&SPARE);
        let kept: usize = spare.iter().map(|(_, long, _)| long).sum();
        if kept + length <= SPARE_BYTES {
            spare.push((block.expose_provenance(), length, locked));
            return true;
        }
    }
    // SAFETY: as above.
    unsafe { libc::munmap(block.cast(), length) };
    true
}
