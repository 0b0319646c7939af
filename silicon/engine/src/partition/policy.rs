//! A partition's policy: what the firmware decides, and silicon enforces.

/// What the firmware allows a partition. Limits are quotas, not constants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Private objects need a user login; without it whoever has the socket is the user.
    pub pin_required: bool,
    /// RSA-1024 and SHA-1 signatures, for outside suites only.
    pub legacy_test: bool,
    /// Allowed mechanism types; None: all.
    pub mechanisms: Option<Vec<u64>>,
    /// Objects at once.
    pub keys: u64,
    /// Sessions at once.
    pub sessions: u64,
    /// Connections at once.
    pub connections: u64,
    /// Bytes of shared memory at once.
    pub mapped_bytes: u64,
    /// Worker threads; 0: as many as CPUs, at most four.
    pub workers: u32,
    /// Share of the CPU against other partitions; 100 is the normal one. More than 100 needs
    /// CAP_SYS_NICE.
    pub weight: u32,
    /// For how long its first worker spins, at most, before it sleeps, in microseconds.
    pub spin: u32,
}

/// The most microseconds of spinning that a policy may set.
const SPIN_MAX: u32 = 10_000;

impl Policy {
    /// For how long the first worker spins, at most.
    pub fn spin_nanoseconds(&self) -> u64 {
        u64::from(self.spin.min(SPIN_MAX)) * 1_000
    }
}
