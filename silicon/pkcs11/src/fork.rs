//! Notices that this process is a forked child, without a system call: the kernel wipes one page.

use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// The page's word: zero after a fork.
const OWN: u32 = 1;
const REPAIRING: u32 = 2;

static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());
/// Where the kernel cannot wipe pages: the process that the state belongs to, else 0.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// Makes the page, once in the life of a process and its children.
pub fn watch() {
    if !PAGE.load(Ordering::Acquire).is_null() {
        return;
    }
    const BYTES: usize = 4096;
    // SAFETY: a new private mapping at an address of the kernel's choice.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    // SAFETY: the range is the mapping just made.
    let wiped = base != libc::MAP_FAILED
        && unsafe { libc::madvise(base, BYTES, libc::MADV_WIPEONFORK) } == 0;
    if !wiped {
        OWNER.store(std::process::id(), Ordering::Release);
        return;
    }
    let word = base.cast::<AtomicU32>();
    // SAFETY: the page is mapped, aligned, and never unmapped.
    unsafe { (*word).store(OWN, Ordering::Release) };
    PAGE.store(word, Ordering::Release);
}

/// Runs `repair` in the first call after a fork, in one thread; others wait for it.
pub fn check(repair: impl FnOnce()) {
    let word = PAGE.load(Ordering::Acquire);
    if word.is_null() {
        return check_owner(repair);
    }
    // SAFETY: the page is never unmapped.
    let word = unsafe { &*word };
    if word.load(Ordering::Acquire) != OWN {
        forked(word, repair);
    }
}

#[cold]
fn forked(word: &AtomicU32, repair: impl FnOnce()) {
    if word
        .compare_exchange(0, REPAIRING, Ordering::AcqRel, Ordering::Acquire)
        .is_ok()
    {
        repair();
        word.store(OWN, Ordering::Release);
    }
    while word.load(Ordering::Acquire) != OWN {
        std::thread::yield_now();
    }
}

#[cold]
fn check_owner(repair: impl FnOnce()) {
    let owner = OWNER.load(Ordering::Acquire);
    let own = std::process::id();
    if owner != 0
        && owner != own
        && OWNER
            .compare_exchange(owner, own, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    {
        repair();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_child_repairs_once_and_the_parent_never() {
        watch();
        let mut repairs = 0;
        check(|| repairs += 1);
        assert_eq!(repairs, 0);
        let child = unsafe { libc::fork() };
        if child == 0 {
            check(|| repairs += 1);
            check(|| repairs += 1);
            unsafe { libc::_exit(repairs) };
        }
        let mut status = 0;
        unsafe { libc::waitpid(child, &mut status, 0) };
        assert_eq!(libc::WEXITSTATUS(status), 1);
        check(|| repairs += 1);
        assert_eq!(repairs, 0);
    }
}
