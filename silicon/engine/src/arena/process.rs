//! The process around the keys: no core dumps, no debuggers, and what the host does with swap.

use std::io;

/// What protects the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Whether the kernel may dump its core and others of its user may look into it.
    pub dumpable: bool,
    /// Bytes of a core file.
    pub core_limit: u64,
    /// Bytes that may be locked (u64::MAX: no limit, also where CAP_IPC_LOCK lifts it).
    pub lock_limit: u64,
    /// Yama's ptrace scope (0 to 3), or None without Yama.
    pub ptrace_scope: Option<u8>,
    /// Active swap areas by name.
    pub swap: Vec<String>,
}

/// Forbids core dumps and debuggers, for good: PR_SET_DUMPABLE 0 (no dump even to a program, no
/// ptrace and no /proc/PID/mem without CAP_SYS_PTRACE), core limit 0.
pub fn harden() -> io::Result<()> {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: plain system calls; the structure lives during the call.
    let done = unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &none) | libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0)
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What protects the process now.
pub fn report() -> Process {
    // SAFETY: plain system call.
    let dumpable = unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) } != 0;
    Process {
        dumpable,
        core_limit: limit(libc::RLIMIT_CORE),
        lock_limit: if can_lock_all() {
            u64::MAX
        } else {
            limit(libc::RLIMIT_MEMLOCK)
        },
        ptrace_scope: std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope")
            .ok()
            .and_then(|text| text.trim().parse().ok()),
        swap: swap_areas(&std::fs::read_to_string("/proc/swaps").unwrap_or_default()),
    }
}

fn limit(kind: libc::__rlimit_resource_t) -> u64 {
    let mut value = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the output argument lives during the call.
    unsafe { libc::getrlimit(kind, &mut value) };
    value.rlim_cur
}

/// CAP_IPC_LOCK among the effective capabilities.
fn can_lock_all() -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    std::fs::read_to_string("/proc/thread-self/status").is_ok_and(|status| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
            .is_some_and(|bits| bits >> CAP_IPC_LOCK & 1 == 1)
    })
}

fn swap_areas(table: &str) -> Vec<String> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_areas_are_read_from_the_kernels_table() {
        let table =
            "Filename\t\t\t\tType\t\tSize\n/dev/sda2    partition\t99\t0\t-2\n/swap file\t5\n";
        assert_eq!(swap_areas(table), ["/dev/sda2", "/swap"]);
        assert!(swap_areas("").is_empty());
    }
}
