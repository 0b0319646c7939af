//! Where everything stands in the metrics page of a partition, which its module writes and others
//! read (`docs/metrics.md` has it for other implementers). Readers need no cryptography, so the
//! layout is here; what the module writes, and when, is in the engine's `metrics`.
//!
//! The page is a head of `HEAD_BYTES`, then `AREAS` areas of `AREA_BYTES`. An area is an array of
//! `ENTRIES` entries of `ENTRY_BYTES`, used from the first one on, with the figures of one operation
//! with one mechanism. Area 0 belongs to everybody but the workers; each other area to one worker at
//! a time. Counts only grow. A reader adds up what the areas have.

/// "CMm1".
pub const MAGIC: u32 = u32::from_le_bytes(*b"CMm1");
/// The version of everything in this file.
pub const VERSION: u16 = 1;

/// Bytes of the head.
pub const HEAD_BYTES: usize = 4096;
/// Areas of a page.
pub const AREAS: usize = 129;
/// Entries of an area.
pub const ENTRIES: usize = 128;
/// Bytes of an entry: a cache line, then a line for eight buckets each.
pub const ENTRY_BYTES: usize = 512;
/// Bytes of an area.
pub const AREA_BYTES: usize = ENTRIES * ENTRY_BYTES;
/// Bytes of the page. Most of it is never touched, so it is not there.
pub const PAGE_BYTES: usize = HEAD_BYTES + AREAS * AREA_BYTES;
/// Buckets of a histogram.
pub const BUCKETS: usize = 56;
/// The first bucket holds what took less than 2 to the power of this, in nanoseconds.
pub const FIRST_SHIFT: u32 = 7;
/// Longest name of a partition in the head.
pub const NAME_BYTES: usize = 64;

/// Offsets in the head.
pub mod head {
    /// u32: `MAGIC`; written last.
    pub const MAGIC: usize = 0;
    /// u16: `VERSION`.
    pub const VERSION: usize = 4;
    /// u16: `BUCKETS`.
    pub const BUCKETS: usize = 6;
    /// u32: `AREAS`.
    pub const AREAS: usize = 8;
    /// u32: `ENTRIES`.
    pub const ENTRIES: usize = 12;
    /// u32: `ENTRY_BYTES`.
    pub const ENTRY_BYTES: usize = 16;
    /// u32: `FIRST_SHIFT`.
    pub const FIRST_SHIFT: usize = 20;
    /// u64: when the counts began, in seconds since 1970.
    pub const SINCE: usize = 24;
    /// u32: areas that were ever used: those from here on are empty.
    pub const USED: usize = 32;
    /// 64 bytes: the partition's name, in zeros.
    pub const NAME: usize = 64;
}

/// Offsets in an entry.
pub mod entry {
    /// u32: 0, the entry and those behind it are free; else 1 and the operation's code, or
    /// `OTHERS`. Written last.
    pub const OPERATION: usize = 0;
    /// u32: CK_MECHANISM_TYPE, or `NO_MECHANISM`.
    pub const MECHANISM: usize = 4;
    /// u64: requests that failed; they are in the histogram too.
    pub const ERRORS: usize = 8;
    /// u64: nanoseconds that the requests took together.
    pub const NANOSECONDS: usize = 16;
    /// `BUCKETS` u64: requests by the nanoseconds that they took.
    pub const BUCKETS: usize = 64;
}

/// The operation of an entry for all that found no entry of their own.
pub const OTHERS: u32 = 0x1_0000;
/// The mechanism of operations that have none.
pub const NO_MECHANISM: u32 = u32::MAX;

/// The bucket of a request that took so many nanoseconds: two for each power of two.
#[inline]
pub fn bucket_of(nanoseconds: u64) -> usize {
    if nanoseconds >> FIRST_SHIFT == 0 {
        return 0;
    }
    let power = nanoseconds.ilog2();
    let upper_half = (nanoseconds >> (power - 1)) & 1;
    let bucket = 1 + 2 * (power - FIRST_SHIFT) as usize + upper_half as usize;
    bucket.min(BUCKETS - 1)
}

/// What everything in a bucket is below, in nanoseconds; None for the last one, which has no end.
pub fn bound_of(bucket: usize) -> Option<u64> {
    let power = FIRST_SHIFT + u32::try_from(bucket / 2).ok()?;
    match bucket {
        _ if bucket >= BUCKETS - 1 => None,
        _ if bucket.is_multiple_of(2) => 1u64.checked_shl(power),
        _ => 1u64.checked_shl(power).map(|low| low + low / 2),
    }
}

const _: () = {
    assert!(entry::BUCKETS + BUCKETS * 8 == ENTRY_BYTES);
    assert!(head::NAME + NAME_BYTES <= HEAD_BYTES);
    assert!(PAGE_BYTES.is_multiple_of(4096));
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_are_two_for_each_power_of_two() {
        let bounds: Vec<_> = (0..BUCKETS).map(bound_of).collect();
        assert_eq!(bounds[..5], [128, 192, 256, 384, 512].map(Some));
        assert_eq!(bounds[BUCKETS - 2], Some(1 << 34));
        assert_eq!(bounds[BUCKETS - 1], None);
    }

    proptest! {
        #[test]
        fn a_time_is_below_its_bucket_and_not_below_the_one_before(shift in 0u32..64, low: u64) {
            let time = low >> shift;
            let bucket = bucket_of(time);
            prop_assert!(bound_of(bucket).is_none_or(|bound| time < bound));
            prop_assert!(bucket == 0 || bound_of(bucket - 1).is_some_and(|bound| time >= bound));
        }
    }
}
