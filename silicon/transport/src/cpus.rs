//! The CPUs that a thread may really use: its affinity mask, and the quota of its control group.
//!
//! Spinning pays only where the one who answers can run at the same time.

use std::path::Path;
use std::sync::OnceLock;

/// The CPU that the calling thread runs on, for comparisons; u32::MAX where that is not known.
#[inline]
pub fn current() -> u32 {
    // SAFETY: no arguments; the C library reads it from the thread's own area.
    u32::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(u32::MAX)
}

/// CPUs that the calling thread may run on at once, at least 1. A quota of less than two CPUs is
/// one: what one thread spins is taken from the other.
pub fn available() -> u32 {
    affinity().min(quota().unwrap_or(u32::MAX)).max(1)
}

/// The quota of this process's control group in whole CPUs, as it was when it was first asked for.
pub fn quota() -> Option<u32> {
    static QUOTA: OnceLock<Option<u32>> = OnceLock::new();
    *QUOTA.get_or_init(|| quota_below(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup")))
}

fn affinity() -> u32 {
    let Some(set) = affinity_mask() else {
        return 1;
    };
    // SAFETY: reads the set.
    u32::try_from(unsafe { libc::CPU_COUNT(&set) }).unwrap_or(1)
}

fn affinity_mask() -> Option<libc::cpu_set_t> {
    // SAFETY: a zeroed set is a valid output argument.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the size is that of the set.
    let result =
        unsafe { libc::sched_getaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), &mut set) };
    (result == 0).then_some(set)
}

/// Whether no more threads want to run, on the whole machine, than the calling one may use CPUs: one
/// of them may be free.
pub fn have_room() -> bool {
    let text = std::fs::read_to_string("/proc/loadavg");
    text.is_ok_and(|text| running(&text).is_some_and(|running| running <= affinity()))
}

/// The threads that run or want to, in the text of /proc/loadavg.
fn running(text: &str) -> Option<u32> {
    let (running, _) = text.split_whitespace().nth(3)?.split_once('/')?;
    running.parse().ok()
}

/// Moves the calling thread to another CPU of its affinity mask, where there is one. Afterwards it
/// may run on all of them again: where it stays is the scheduler's.
pub fn leave_current() {
    let here = current();
    go_where(|cpu| cpu != here);
}

/// As `leave_current`, to this CPU.
pub fn move_to(cpu: u32) {
    go_where(|one| one == cpu);
}

/// Moves the calling thread to one of the CPUs of its affinity mask that are `wanted`, if there are
/// any. The mask is the same again afterwards.
fn go_where(wanted: impl Fn(u32) -> bool) {
    if let Some(whole) = affinity_mask()
        && restrict(&whole, wanted)
    {
        allow(&whole);
    }
}

/// Allows the calling thread only those of these CPUs that are `wanted`; false if there are none.
fn restrict(whole: &libc::cpu_set_t, wanted: impl Fn(u32) -> bool) -> bool {
    let mut some = *whole;
    for cpu in 0..libc::CPU_SETSIZE as usize {
        if !u32::try_from(cpu).is_ok_and(&wanted) {
            // SAFETY: the CPU's number is inside the set.
            unsafe { libc::CPU_CLR(cpu, &mut some) };
        }
    }
    // SAFETY: reads the set.
    let any = unsafe { libc::CPU_COUNT(&some) } != 0;
    if any {
        allow(&some);
    }
    any
}

/// Allows the calling thread these CPUs.
fn allow(set: &libc::cpu_set_t) {
    // SAFETY: the set lives during the call. A refusal leaves things as they are.
    unsafe { libc::sched_setaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), set) };
}

/// The least quota, in whole CPUs, of the group that `membership` names and of those above it, in
/// either version of the kernel's interface.
fn quota_below(membership: &Path, root: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(membership).ok()?;
    text.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
            let base = match controllers {
                "" => root.to_path_buf(),
                _ if controllers.split(',').any(|name| name == "cpu") => root.join("cpu"),
                _ => return None,
            };
            let folder = base.join(group.trim_start_matches('/'));
            folder
                .ancestors()
                .take_while(|folder| folder.starts_with(&base))
                .filter_map(quota_of)
                .min()
        })
        .min()
}

fn quota_of(group: &Path) -> Option<u32> {
    let read = |name: &str| std::fs::read_to_string(group.join(name)).ok();
    let (quota, period) = match read("cpu.max") {
        Some(text) => {
            let mut fields = text.split_whitespace();
            (fields.next()?.parse::<u64>(), fields.next()?.parse::<u64>())
        }
        None => (
            read("cpu.cfs_quota_us")?.trim().parse::<u64>(),
            read("cpu.cfs_period_us")?.trim().parse::<u64>(),
        ),
    };
    // "max" and -1 are no numbers of CPUs: no quota.
    let (quota, period) = (quota.ok()?, period.ok()?);
    u32::try_from(quota.checked_div(period)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Groups(std::path::PathBuf);

    impl Groups {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("cm-cpus-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            Self(root)
        }

        fn quota(&self) -> Option<u32> {
            quota_below(&self.0.join("membership"), &self.0.join("groups"))
        }
    }

    impl Drop for Groups {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_thread_that_leaves_its_cpu_may_come_back() {
        let before = affinity();
        leave_current();
        assert_eq!(affinity(), before);
    }

    #[test]
    fn threads_that_run_are_counted() {
        assert_eq!(running("0.72 1.12 1.56 3/191 28131\n"), Some(3));
        assert_eq!(running("0.72 1.12"), None);
        assert_eq!(running("a b c d e"), None);
    }

    #[test]
    fn the_least_quota_on_the_way_up_counts() {
        let groups = Groups::new(
            "v2",
            &[
                ("membership", "0::/outer/inner\n"),
                ("groups/outer/cpu.max", "150000 100000\n"),
                ("groups/outer/inner/cpu.max", "max 100000\n"),
            ],
        );
        assert_eq!(groups.quota(), Some(1));
    }

    #[test]
    fn the_older_interface_is_read_as_well() {
        let groups = Groups::new(
            "v1",
            &[
                ("membership", "3:cpu,cpuacct:/job\n2:memory:/job\n"),
                ("groups/cpu/job/cpu.cfs_quota_us", "400000\n"),
                ("groups/cpu/job/cpu.cfs_period_us", "100000\n"),
            ],
        );
        assert_eq!(groups.quota(), Some(4));
    }

    #[test]
    fn without_a_quota_there_is_none() {
        let unlimited = [
            ("membership", "0::/\n3:cpu:/\n"),
            ("groups/cpu.max", "max 100000\n"),
            ("groups/cpu/cpu.cfs_quota_us", "-1\n"),
            ("groups/cpu/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(Groups::new("none", &unlimited).quota(), None);
        assert_eq!(
            Groups::new("garbage", &[("membership", "what\n::\n")]).quota(),
            None
        );
        assert!(available() >= 1);
    }
}
