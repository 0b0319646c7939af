//! Checks that held: may this key do this with this mechanism? While the partition's epoch stands
//! still, a further Init of the same kind needs no round trip.

use casemate_transport::message::Usage;

const ENTRIES: usize = 16;

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// For what.
    pub usage: Usage,
    /// CK_MECHANISM_TYPE.
    pub mechanism: u64,
    /// Key handle.
    pub key: u64,
    /// Shape of the parameters.
    pub shape: u64,
}

/// What the module said about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Length of the output, or 0: it depends on the data, or is not known.
    pub length: u64,
    /// Bit 0: ALWAYS_AUTHENTICATE; bit 1: the length depends on the data.
    pub flags: u64,
}

/// The newest checks of one session.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    entries: [Option<(Subject, u64, Verdict)>; ENTRIES],
}

impl Verdicts {
    fn index(subject: &Subject) -> usize {
        let mixed = (subject.key ^ subject.mechanism.rotate_left(17) ^ subject.shape)
            .wrapping_add(subject.usage as u64)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 32) as usize % ENTRIES
    }

    /// What is known of it at this epoch.
    pub fn get(&self, subject: &Subject, epoch: u64) -> Option<Verdict> {
        match self.entries.get(Self::index(subject)) {
            Some(Some((known, then, verdict))) if known == subject && *then == epoch => {
                Some(*verdict)
            }
            _ => None,
        }
    }

    /// Keeps what the module said at this epoch.
    pub fn keep(&mut self, subject: Subject, epoch: u64, verdict: Verdict) {
        if let Some(entry) = self.entries.get_mut(Self::index(&subject)) {
            *entry = Some((subject, epoch, verdict));
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_holds_for_its_subject_and_epoch_only() {
        let subject = Subject {
            usage: Usage::Sign,
            mechanism: 0x1041,
            key: 5,
            shape: 9,
        };
        let verdict = Verdict {
            length: 64,
            flags: 0,
        };
        let mut verdicts = Verdicts::default();
        verdicts.keep(subject, 3, verdict);
        assert_eq!(verdicts.get(&subject, 3), Some(verdict));
        assert_eq!(verdicts.get(&subject, 4), None);
        for other in [
            Subject { key: 6, ..subject },
            Subject {
                usage: Usage::Verify,
                ..subject
            },
            Subject {
                mechanism: 1,
                ..subject
            },
            Subject {
                shape: 1,
                ..subject
            },
        ] {
            assert_eq!(verdicts.get(&other, 3), None);
        }
        verdicts.clear();
        assert_eq!(verdicts.get(&subject, 3), None);
    }
}
