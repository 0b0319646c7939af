//! Roles: the security officer and the user, their PINs, and what wrong ones cost.
//!
//! Rules. A wrong PIN is counted, durably, before it is compared. After `FREE_FAILURES` failures each
//! further try of the same peer (by user id) waits: 1 s, 2 s, 4 s, ... up to an hour, and the count
//! never rolls over: only a right PIN of that peer, or the security officer, clears it. Other peers
//! are not delayed, so a holder of the socket cannot lock them out. A try inside its delay answers
//! CKR_PIN_LOCKED and is not compared. PINs are 4 to 256 bytes.

use std::collections::BTreeMap;

use casemate_transport::fields::{Malformed, Reader};
use cryptoki_sys::{CKR_PIN_LEN_RANGE, CKR_PIN_LOCKED};

use crate::failure::Failure;
use crate::lc::{Secret, kdf, random};

/// Shortest PIN in bytes.
pub const PIN_MIN: usize = 4;
/// Longest PIN in bytes.
pub const PIN_MAX: usize = 256;
/// Failures before the first delay.
pub const FREE_FAILURES: u64 = 3;
/// Longest delay in seconds.
const DELAY_MAX: u64 = 3600;
/// Peers whose failures are remembered for each role; beyond them all others share one count.
const PEERS_MAX: usize = 1024;
const SALT: usize = 16;
const VERIFIER: usize = 32;
const ITERATIONS: u32 = 10_000;

/// A role with a PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// Initialises the user's PIN and unlocks.
    SecurityOfficer = 0,
    /// Uses the keys.
    User = 1,
}

/// What a PIN is compared with.
#[derive(Clone, Debug)]
pub struct Verifier {
    salt: [u8; SALT],
    value: Secret,
}

impl Verifier {
    /// The verifier of a new PIN.
    pub fn new(pin: &Secret) -> Result<Self, Failure> {
        if !(PIN_MIN..=PIN_MAX).contains(&pin.len()) {
            return Err(CKR_PIN_LEN_RANGE.into());
        }
        let mut salt = [0; SALT];
        random::fill(&mut salt)?;
        let value = kdf::pbkdf2_sha512(pin.expose(), &salt, ITERATIONS, VERIFIER)?;
        Ok(Self { salt, value })
    }

    /// Whether this is the PIN, in constant time.
    pub fn matches(&self, pin: &Secret) -> Result<bool, Failure> {
        let value = kdf::pbkdf2_sha512(pin.expose(), &self.salt, ITERATIONS, VERIFIER)?;
        Ok(self.value.equals(value.expose()))
    }
}

/// Failures of one peer in one role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Wrong PINs since the last right one.
    pub count: u64,
    /// When the last one came, in seconds of the system's clock.
    pub last: u64,
}

/// The roles of a partition.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    /// Counts the changes of the record.
    pub generation: u64,
    /// The token's label, set by C_InitToken.
    pub label: Option<[u8; 32]>,
    verifiers: BTreeMap<Role, Verifier>,
    failures: BTreeMap<(Role, u32), Failures>,
}

impl Roles {
    /// Whether the role has a PIN.
    pub fn is_initialised(&self, role: Role) -> bool {
        self.verifiers.contains_key(&role)
    }

    /// What the role's PIN is compared with.
    pub fn verifier(&self, role: Role) -> Option<Verifier> {
        self.verifiers.get(&role).cloned()
    }

    /// Sets the role's PIN and forgets its failures.
    pub fn set_verifier(&mut self, role: Role, verifier: Verifier) {
        self.verifiers.insert(role, verifier);
        self.failures.retain(|(r, _), _| *r != role);
    }

    /// Forgets the role's PIN and failures.
    pub fn clear(&mut self, role: Role) {
        self.verifiers.remove(&role);
        self.failures.retain(|(r, _), _| *r != role);
    }

    fn bucket(&self, role: Role, peer: u32) -> (Role, u32) {
        let key = (role, peer);
        let full = self.failures.keys().filter(|(r, _)| *r == role).count() >= PEERS_MAX;
        if full && !self.failures.contains_key(&key) {
            (role, u32::MAX)
        } else {
            key
        }
    }

    /// The failures that count for this peer.
    pub fn failures(&self, role: Role, peer: u32) -> Failures {
        self.failures
            .get(&self.bucket(role, peer))
            .copied()
            .unwrap_or_default()
    }

    /// Most failures of any peer in the role.
    pub fn most_failures(&self, role: Role) -> u64 {
        self.failures
            .iter()
            .filter(|((r, _), _)| *r == role)
            .map(|(_, f)| f.count)
            .max()
            .unwrap_or(0)
    }

    /// Fails with CKR_PIN_LOCKED while the peer's delay runs; `now` in seconds. A clock that went
    /// back counts as no time passed.
    pub fn require_unlocked(&self, role: Role, peer: u32, now: u64) -> Result<(), Failure> {
        let failures = self.failures(role, peer);
        let delay = delay(failures.count);
        if delay > 0 && now.saturating_sub(failures.last) < delay {
            return Err(CKR_PIN_LOCKED.into());
        }
        Ok(())
    }

    /// Counts a try as failed: stored before the PIN is compared.
    pub fn count_failure(&mut self, role: Role, peer: u32, now: u64) {
        let bucket = self.bucket(role, peer);
        let failures = self.failures.entry(bucket).or_default();
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
    }

    /// The PIN was right: forgets the peer's failures.
    pub fn clear_failures(&mut self, role: Role, peer: u32) {
        let bucket = self.bucket(role, peer);
        self.failures.remove(&bucket);
    }

    /// The record's bytes.
    pub fn encode(&self) -> Secret {
        let mut out = Vec::new();
        out.push(u8::from(self.label.is_some()));
        out.extend_from_slice(&self.label.unwrap_or_default());
        out.push(self.verifiers.len() as u8);
        for (role, verifier) in &self.verifiers {
            out.push(*role as u8);
            out.extend_from_slice(&verifier.salt);
            out.extend_from_slice(verifier.value.expose());
        }
        out.extend_from_slice(&(self.failures.len() as u32).to_le_bytes());
        for ((role, peer), failures) in &self.failures {
            out.push(*role as u8);
            out.extend_from_slice(&peer.to_le_bytes());
            out.extend_from_slice(&failures.count.to_le_bytes());
            out.extend_from_slice(&failures.last.to_le_bytes());
        }
        Secret::from(out.into_boxed_slice())
    }

    /// The roles in a record.
    pub fn decode(bytes: &[u8], generation: u64) -> Result<Self, Malformed> {
        fn role(code: u8, offset: usize) -> Result<Role, Malformed> {
            match code {
                0 => Ok(Role::SecurityOfficer),
                1 => Ok(Role::User),
                _ => Err(Malformed { offset }),
            }
        }
        let mut r = Reader::new(bytes);
        let has_label = r.u8()? != 0;
        let label: [u8; 32] = r
            .bytes(32)?
            .try_into()
            .map_err(|_| Malformed { offset: 1 })?;
        let mut roles = Self {
            generation,
            label: has_label.then_some(label),
            ..Self::default()
        };
        for _ in 0..r.u8()? {
            let who = role(r.u8()?, r.offset())?;
            let salt = r
                .bytes(SALT)?
                .try_into()
                .map_err(|_| Malformed { offset: 0 })?;
            let value = Secret::copy(r.bytes(VERIFIER)?);
            roles.verifiers.insert(who, Verifier { salt, value });
        }
        for _ in 0..r.u32()? {
            let who = role(r.u8()?, r.offset())?;
            let peer = r.u32()?;
            roles.failures.insert(
                (who, peer),
                Failures {
                    count: r.u64()?,
                    last: r.u64()?,
                },
            );
        }
        r.finish()?;
        Ok(roles)
    }
}

fn delay(failures: u64) -> u64 {
    match failures.checked_sub(FREE_FAILURES) {
        None => 0,
        Some(beyond) => 1u64
            .checked_shl(u32::try_from(beyond).unwrap_or(63).min(62))
            .unwrap_or(u64::MAX)
            .min(DELAY_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_never_roll_over() {
        let mut roles = Roles::default();
        let mut last = 0;
        for count in 1..200 {
            roles.count_failure(Role::User, 1000, 5);
            let wait = delay(roles.failures(Role::User, 1000).count);
            assert!(wait >= last, "after {count} failures");
            last = wait;
        }
        assert_eq!(last, DELAY_MAX);
        assert!(roles.require_unlocked(Role::User, 1000, 6).is_err());
        assert!(
            roles.require_unlocked(Role::User, 1000, 0).is_err(),
            "a clock that went back"
        );
        assert!(
            roles
                .require_unlocked(Role::User, 1000, 5 + DELAY_MAX)
                .is_ok()
        );
        assert!(
            roles.require_unlocked(Role::User, 1001, 6).is_ok(),
            "another peer"
        );
    }

    #[test]
    fn roles_survive_their_record() {
        let mut roles = Roles {
            label: Some([b'x'; 32]),
            ..Roles::default()
        };
        let pin = Secret::copy(b"1234");
        roles.set_verifier(Role::User, Verifier::new(&pin).unwrap());
        roles.count_failure(Role::SecurityOfficer, 7, 99);
        let again = Roles::decode(roles.encode().expose(), 3).unwrap();
        assert!(again.verifier(Role::User).unwrap().matches(&pin).unwrap());
        assert!(
            !again
                .verifier(Role::User)
                .unwrap()
                .matches(&Secret::copy(b"1235"))
                .unwrap()
        );
        assert_eq!(
            again.failures(Role::SecurityOfficer, 7),
            Failures { count: 1, last: 99 }
        );
        assert_eq!(again.label, roles.label);
        let bytes = roles.encode();
        for length in 0..bytes.len() {
            assert!(Roles::decode(&bytes.expose()[..length], 3).is_err());
        }
    }
}
