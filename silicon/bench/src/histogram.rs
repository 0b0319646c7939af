//! Latencies in buckets: exact below 64 ns, then 64 buckets for each power of two (1.6% wide).

use std::collections::BTreeMap;

/// Buckets for each power of two, as a power of two.
const FINE: u32 = 6;

/// How often each latency was seen.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
}

impl Histogram {
    /// Counts one operation of so many nanoseconds.
    pub fn add(&mut self, nanoseconds: u64) {
        let index = bucket(nanoseconds);
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
        }
    }

    /// The lowest nanosecond of each bucket that is not empty, with its count.
    pub fn buckets(&self) -> BTreeMap<u64, u64> {
        self.counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count != 0)
            .map(|(index, count)| (lowest(index), *count))
            .collect()
    }
}

fn bucket(nanoseconds: u64) -> usize {
    let exponent = (u64::BITS - nanoseconds.leading_zeros()).saturating_sub(FINE + 1);
    let mantissa = usize::try_from(nanoseconds >> exponent).unwrap_or(usize::MAX);
    mantissa + ((exponent as usize) << FINE)
}

fn lowest(index: usize) -> u64 {
    let exponent = (index >> FINE).saturating_sub(1);
    ((index - (exponent << FINE)) as u64) << exponent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_begins_at_most_a_64th_below_its_values() {
        let mut last = 0;
        for shift in 0..40 {
            for offset in [0, 1, 3, 1 << shift >> 1] {
                let value = (1u64 << shift) + offset;
                let index = bucket(value);
                let begin = lowest(index);
                assert!(
                    begin <= value && value - begin <= value / 64,
                    "{value} {begin}"
                );
                assert_eq!(bucket(begin), index);
                last = last.max(index);
            }
        }
        assert!(last < 64 * 64);
    }

    #[test]
    fn counts_stand_at_their_buckets() {
        let mut histogram = Histogram::default();
        for value in [10, 10, 1_000_000] {
            histogram.add(value);
        }
        let buckets: Vec<_> = histogram.buckets().into_iter().collect();
        assert_eq!(buckets, [(10, 2), (999_424, 1)]);
    }
}
