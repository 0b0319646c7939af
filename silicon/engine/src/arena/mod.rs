//! The arena: locked, undumpable memory for key bytes.
//!
//! Rust and not Python: it is where key bytes stand. After `install`, everything that AWS-LC
//! allocates and every `Secret` comes from here; before it, and in processes that hold no keys, both
//! use the heap. Freed memory is wiped before it can be given out again, so what is given out is
//! always zero.
//!
//! Layout. One range of addresses is reserved and never moves. It grows by chunks of pages
//! (`pages`), cut into slabs of `SLAB` bytes; all blocks of a slab have one size, which a table
//! outside of the range tells, so that blocks have no headers. Free blocks form lists through their
//! first word: one list a size for all threads, and a short one for each thread, which is what
//! almost every call uses. Blocks beyond `BLOCK_MAX` are mappings of their own.
//!
//! A forked child has none of these pages (MADV_DONTFORK): it must not use keys, and what it frees
//! is forgotten.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

mod large;
mod library;
mod pages;
pub mod process;

pub use pages::Kind;
use pages::Pages;

/// Bytes of a slab.
const SLAB: usize = 64 * 1024;
/// Bytes by which the arena grows.
const CHUNK: usize = 8 * SLAB;
/// Addresses reserved: the most that the arena can hold.
const RANGE: usize = 8 << 30;
const SLABS: usize = RANGE / SLAB;
/// The sizes of blocks, all multiples of 16.
const SIZES: [u32; 20] = [
    16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192,
    16384, 32768,
];
/// The largest block.
const BLOCK_MAX: usize = 32768;
/// Bytes that one list of one thread keeps, roughly.
const THREAD_BYTES: usize = 8 * 1024;
/// Locked bytes that new keys leave to operations under way, with `require_locked`.
const RESERVE: u64 = 2 * CHUNK as u64;

/// Start of the range; 0: not installed.
static BASE: AtomicUsize = AtomicUsize::new(0);
/// The size class of each slab, plus one.
static CLASS_OF: [AtomicU8; SLABS] = [const { AtomicU8::new(0) }; SLABS];
static SHARED: [Mutex<List>; SIZES.len()] = [const { Mutex::new(List::EMPTY) }; SIZES.len()];
static GROWTH: Mutex<Growth> = Mutex::new(Growth {
    pages: None,
    next: 0,
    end: 0,
});
static STATISTICS: Statistics = Statistics {
    locked: AtomicU64::new(0),
    unlocked: AtomicU64::new(0),
    large: AtomicU64::new(0),
};
/// Bytes that this process may lock.
static LOCK_LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);
static REQUIRE_LOCKED: AtomicBool = AtomicBool::new(false);
static FORKED: AtomicBool = AtomicBool::new(false);

struct Statistics {
    locked: AtomicU64,
    unlocked: AtomicU64,
    large: AtomicU64,
}

struct Growth {
    pages: Option<Pages>,
    /// Bytes of the range that slabs have taken.
    next: usize,
    /// Bytes of the range that are mapped.
    end: usize,
}

/// Free blocks of one size, linked through their first word; all other bytes of them are zero.
#[derive(Clone, Copy)]
struct List {
    head: *mut u8,
    length: usize,
}

// SAFETY: a list owns the blocks in it; it moves between threads under a lock.
unsafe impl Send for List {}

impl List {
    const EMPTY: Self = Self {
        head: ptr::null_mut(),
        length: 0,
    };

    /// # Safety
    /// The block must be zeroed, at least a word long, aligned, and used by nobody.
    unsafe fn push(&mut self, block: *mut u8) {
        // SAFETY: by this function's contract.
        unsafe { block.cast::<*mut u8>().write(self.head) };
        self.head = block;
        self.length += 1;
    }

    fn pop(&mut self) -> Option<*mut u8> {
        if self.head.is_null() {
            return None;
        }
        let block = self.head.cast::<*mut u8>();
        // SAFETY: blocks in a list hold the next one in their first word, and belong to the list.
        unsafe {
            self.head = block.read();
            block.write(ptr::null_mut());
        }
        self.length -= 1;
        Some(block.cast())
    }

    /// Moves up to `count` blocks to the other list.
    fn give(&mut self, other: &mut List, count: usize) {
        for _ in 0..count {
            let Some(block) = self.pop() else { break };
            // SAFETY: a block from a list is zeroed but for its link, which `pop` has cleared.
            unsafe { other.push(block) };
        }
    }
}

/// The short lists of one thread; what is left in them at its end goes back to all.
struct Thread {
    lists: [Cell<List>; SIZES.len()],
}

impl Drop for Thread {
    fn drop(&mut self) {
        if FORKED.load(Ordering::Relaxed) {
            return;
        }
        for (mine, shared) in self.lists.iter().zip(&SHARED) {
            let mut list = mine.replace(List::EMPTY);
            let length = list.length;
            list.give(&mut lock(shared), length);
        }
    }
}

thread_local! {
    static THREAD: Thread = const {
        Thread { lists: [const { Cell::new(List::EMPTY) }; SIZES.len()] }
    };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which of `SIZES` holds this many bytes, at most `BLOCK_MAX`.
fn class_for(length: usize) -> usize {
    // One entry for each 16 bytes up to 1 KiB; beyond that a search.
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
    const SMALL: [u8; 65] = {
        let mut table = [0u8; 65];
        let mut i = 0;
        while i < 65 {
            let mut class = 0;
            while (SIZES[class] as usize) < i * 16 {
                class += 1;
            }
            table[i] = class as u8;
            i += 1;
        }
        table
    };
    match SMALL.get(length.div_ceil(16)) {
        Some(class) => usize::from(*class),
        None => SIZES.partition_point(|size| (*size as usize) < length),
    }
}

fn size_of_class(class: usize) -> usize {
    SIZES.get(class).map_or(0, |size| *size as usize)
}

/// How many blocks pass between a thread's list and the shared one at once.
fn batch(class: usize) -> usize {
    (THREAD_BYTES / size_of_class(class).max(1)).clamp(1, 32)
}

/// The class of the block at this address, or None if it is not one of the arena's.
fn class_at(address: usize) -> Option<usize> {
    let base = BASE.load(Ordering::Relaxed);
    let slab = address.wrapping_sub(base) / SLAB;
    if base == 0 || address < base {
        return None;
    }
    let class = CLASS_OF.get(slab)?.load(Ordering::Relaxed);
    usize::from(class).checked_sub(1)
}

fn allocate_block(class: usize) -> Option<*mut u8> {
    let quick = THREAD.try_with(|thread| {
        let cell = thread.lists.get(class)?;
        let mut list = cell.get();
        if list.head.is_null() {
            // The list is not shared while the lock is held: nothing below runs foreign code.
            refill(class, &mut list, batch(class));
        }
        let block = list.pop();
        cell.set(list);
        block
    });
    // A thread that ends has no lists any more.
    quick.unwrap_or_else(|_| {
        let mut list = List::EMPTY;
        refill(class, &mut list, 1);
        list.pop()
    })
}

fn refill(class: usize, list: &mut List, count: usize) {
    let Some(shared) = SHARED.get(class) else {
        return;
    };
    let mut shared = lock(shared);
    if shared.head.is_null() {
        add_slab(class, &mut shared);
    }
    shared.give(list, count);
}

/// Cuts a new slab into blocks of this class.
fn add_slab(class: usize, list: &mut List) {
    let base = BASE.load(Ordering::Relaxed);
    let mut growth = lock(&GROWTH);
    if growth.next >= growth.end && !grow(base, &mut growth) {
        return;
    }
    let offset = growth.next;
    growth.next += SLAB;
    drop(growth);
    if let Some(entry) = CLASS_OF.get(offset / SLAB) {
        entry.store(class as u8 + 1, Ordering::Relaxed);
    }
    let size = size_of_class(class);
    for index in (0..SLAB / size).rev() {
        let block = ptr::with_exposed_provenance_mut::<u8>(base + offset + index * size);
        // SAFETY: inside a slab that is mapped, fresh (zero) and ours.
        unsafe { list.push(block) };
    }
}

fn grow(base: usize, growth: &mut Growth) -> bool {
    let offset = growth.end;
    if offset + CHUNK > RANGE {
        return false;
    }
    let Some(pages) = &mut growth.pages else {
        return false;
    };
    let Some(locked) = pages.map(base + offset, CHUNK) else {
        return false;
    };
    let counter = if locked {
        &STATISTICS.locked
    } else {
        &STATISTICS.unlocked
    };
    counter.fetch_add(CHUNK as u64, Ordering::Relaxed);
    growth.end += CHUNK;
    true
}

/// Zeroed bytes, at least `length`, from the arena; None: not installed, or no memory at all.
pub fn allocate(length: usize) -> Option<*mut u8> {
    if BASE.load(Ordering::Relaxed) == 0 || FORKED.load(Ordering::Relaxed) {
        return None;
    }
    if length <= BLOCK_MAX {
        return allocate_block(class_for(length));
    }
    large::allocate(length)
}

/// How many bytes stand behind a pointer of `allocate`; None: it is not from there.
fn length_of(block: *mut u8) -> Option<usize> {
    match class_at(block.addr()) {
        Some(class) => Some(size_of_class(class)),
        None => large::length_of(block),
    }
}

/// Wipes and frees. False: the pointer is not from `allocate`, and nothing was done.
///
/// # Safety
/// A pointer from `allocate` must not be used any more.
pub unsafe fn free(block: *mut u8) -> bool {
    let Some(class) = class_at(block.addr()) else {
        return large::free(block);
    };
    if FORKED.load(Ordering::Relaxed) {
        return true;
    }
    // SAFETY: the block has the size of its class, and its owner gives it up.
    unsafe { wipe(block, size_of_class(class)) };
    let limit = 2 * batch(class);
    let quick = THREAD.try_with(|thread| {
        let Some(cell) = thread.lists.get(class) else {
            return;
        };
        let mut list = cell.get();
        // SAFETY: wiped, and nobody uses it.
        unsafe { list.push(block) };
        if list.length > limit
            && let Some(shared) = SHARED.get(class)
        {
            list.give(&mut lock(shared), limit / 2);
        }
        cell.set(list);
    });
    if quick.is_err()
        && let Some(shared) = SHARED.get(class)
    {
        // SAFETY: as above.
        unsafe { lock(shared).push(block) };
    }
    true
}

/// # Safety
/// `length` bytes must be writable.
unsafe fn wipe(block: *mut u8, length: usize) {
    // SAFETY: by this function's contract; the barrier keeps the compiler from leaving it out.
    unsafe { ptr::write_bytes(block, 0, length) };
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    std::hint::black_box(block);
}

unsafe extern "C" fn forked() {
    FORKED.store(true, Ordering::Relaxed);
}

// --- installing ----------------------------------------------------------------------------------

/// What protects key memory now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// What kind of pages, or None: not installed, keys stand on the heap.
    pub kind: Option<Kind>,
    /// Whether AWS-LC allocates here.
    pub library: bool,
    /// Bytes that cannot be swapped out.
    pub locked: u64,
    /// Bytes beyond the limit of locked memory: undumpable, but they could be swapped out.
    pub unlocked: u64,
    /// Bytes of long messages under way: undumpable, not locked.
    pub large: u64,
}

/// Whether AWS-LC took our functions; set once.
static INSTALLED: OnceLock<Result<bool, String>> = OnceLock::new();

/// Makes the arena and gives it to AWS-LC; later calls only report. With `require_locked` it is an
/// error if key memory cannot be locked. Call it before threads use AWS-LC.
pub fn install(require_locked: bool) -> Result<Report, String> {
    LOCK_LIMIT.store(process::report().lock_limit, Ordering::Relaxed);
    if require_locked {
        REQUIRE_LOCKED.store(true, Ordering::Relaxed);
    }
    INSTALLED.get_or_init(make).clone()?;
    let report = report();
    if require_locked && (report.locked == 0 || report.unlocked > 0) {
        return Err(format!(
            "key memory cannot be locked ({} bytes are, {} are not): raise RLIMIT_MEMLOCK (ulimit -l, \
             LimitMEMLOCK=) or grant CAP_IPC_LOCK",
            report.locked, report.unlocked
        ));
    }
    Ok(report)
}

fn make() -> Result<bool, String> {
    let base = pages::reserve(RANGE).map_err(|e| format!("no addresses for key memory: {e}"))?;
    let mut growth = lock(&GROWTH);
    growth.pages = Some(Pages::probe());
    if !grow(base, &mut growth) {
        return Err("no memory for keys".into());
    }
    drop(growth);
    // SAFETY: the handler only sets a flag.
    unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    BASE.store(base, Ordering::Release);
    Ok(library::take_over())
}

/// What protects key memory now.
pub fn report() -> Report {
    Report {
        kind: lock(&GROWTH).pages.as_ref().map(Pages::kind),
        library: matches!(INSTALLED.get(), Some(Ok(true))),
        locked: STATISTICS.locked.load(Ordering::Relaxed),
        unlocked: STATISTICS.unlocked.load(Ordering::Relaxed),
        large: STATISTICS.large.load(Ordering::Relaxed),
    }
}

/// Whether new keys may be made: with `require_locked` not when what can be locked runs out.
pub fn has_room() -> bool {
    if !REQUIRE_LOCKED.load(Ordering::Relaxed) {
        return true;
    }
    let locked = STATISTICS.locked.load(Ordering::Relaxed);
    STATISTICS.unlocked.load(Ordering::Relaxed) == 0
        && locked + RESERVE <= LOCK_LIMIT.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
