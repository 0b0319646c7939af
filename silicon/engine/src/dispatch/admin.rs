//! What a client may ask about its partition, and randomness.

use casemate_transport::info::{PartitionInfo, padded};
use casemate_transport::message::Operation;
use cryptoki_sys::*;

use super::{Call, Outcome, Result};
use crate::failure::Failure;
use crate::mechanisms;
use crate::report::{self, ReportVersion};
use crate::roles::{PIN_MAX, PIN_MIN, Role};

/// Most random bytes of one request: what a slot carries.
const RANDOM_MAX: u64 = 16 * 1024;

impl Call<'_> {
    pub(super) fn administer(&mut self, operation: Operation) -> Result<Outcome> {
        match operation {
            Operation::PartitionInfo => Ok(Outcome::Bytes(
                self.partition_info().encode().to_vec(),
                0,
                0,
            )),
            Operation::MechanismList => {
                let kinds = mechanisms::all()
                    .filter(|m| self.mechanism_of(m.kind()).is_ok())
                    .flat_map(|m| m.kind().to_le_bytes())
                    .collect();
                Ok(Outcome::Bytes(kinds, 0, 0))
            }
            Operation::MechanismInfo => {
                let info = self.mechanism()?.info();
                Ok(Outcome::Values(
                    u64::from(info.min) | u64::from(info.max) << 32,
                    info.flags,
                ))
            }
            Operation::Random => {
                self.require_session()?;
                if self.header.aux > RANDOM_MAX {
                    return Err(CKR_ARGUMENTS_BAD.into());
                }
                let mut bytes =
                    vec![0; usize::try_from(self.header.aux).map_err(|_| Failure::internal())?];
                self.partition.random(&mut bytes)?;
                Ok(Outcome::Bytes(bytes, 0, 0))
            }
            Operation::SeedRandom => {
                self.require_session()?;
                self.partition.seed_random(self.data().expose())?;
                Ok(Outcome::Values(0, 0))
            }
            Operation::PartitionChain => {
                let chain = self.partition.chain();
                let mut out = Vec::new();
                for certificate in &chain {
                    out.extend_from_slice(&(certificate.len() as u32).to_le_bytes());
                    out.extend_from_slice(certificate);
                }
                Ok(Outcome::Bytes(out, chain.len() as u64, 0))
            }
            _ => self.attest_key(),
        }
    }

    fn attest_key(&self) -> Result<Outcome> {
        self.require_session()?;
        let (object, key) = self.key(self.header.object)?;
        let version = match self.header.aux {
            1 => ReportVersion::Azure,
            0 | 2 => ReportVersion::Measured,
            _ => return Err(CKR_ARGUMENTS_BAD.into()),
        };
        let measurements = self
            .partition
            .measurements
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        let nonce = self.data();
        let report = report::report(
            &self.partition.identity,
            version,
            &self.partition.id,
            &object,
            &key,
            nonce.expose(),
            &measurements,
        )?;
        Ok(Outcome::Bytes(report, 0, 0))
    }

    fn partition_info(&self) -> PartitionInfo {
        let partition = self.partition;
        let roles = partition
            .roles
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut flags = CKF_RNG | CKF_TOKEN_INITIALIZED | CKF_DUAL_CRYPTO_OPERATIONS;
        if self.policy.pin_required {
            flags |= CKF_LOGIN_REQUIRED;
            if roles.is_initialised(Role::User) {
                flags |= CKF_USER_PIN_INITIALIZED;
            }
            let free = crate::roles::FREE_FAILURES;
            let user = roles.most_failures(Role::User);
            let officer = roles.most_failures(Role::SecurityOfficer);
            flags |= if user > 0 { CKF_USER_PIN_COUNT_LOW } else { 0 };
            flags |= if user + 1 == free {
                CKF_USER_PIN_FINAL_TRY
            } else {
                0
            };
            flags |= if officer > 0 { CKF_SO_PIN_COUNT_LOW } else { 0 };
            flags |= if officer + 1 == free {
                CKF_SO_PIN_FINAL_TRY
            } else {
                0
            };
        } else {
            flags |= CKF_USER_PIN_INITIALIZED;
        }
        let sessions = self.connection.sessions();
        let objects = partition.object_count();
        PartitionInfo {
            label: roles.label.unwrap_or_else(|| padded(partition.name())),
            manufacturer: padded("Casemate"),
            model: padded("Host partition"),
            serial: serial(&partition.id),
            flags,
            sessions_max: self.policy.sessions,
            sessions: sessions.len() as u64,
            rw_sessions_max: self.policy.sessions,
            rw_sessions: sessions
                .values()
                .filter(|session| session.read_write)
                .count() as u64,
            pin_max: PIN_MAX as u32,
            pin_min: PIN_MIN as u32,
            memory_total: u64::MAX,
            memory_free: u64::MAX,
            hardware_version: (0, 1),
            firmware_version: (0, 1),
            state: partition.state() as u32,
            time: 0,
            validation_flags: 0,
            objects_max: self.policy.keys,
            objects,
        }
    }
}

/// The first eight bytes of the partition's UUID, in hexadecimal.
fn serial(id: &[u8; 16]) -> [u8; 16] {
    let mut out = [0u8; 16];
    for (pair, byte) in out.chunks_exact_mut(2).zip(id) {
        for (digit, value) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
            *digit = if value < 10 {
                b'0' + value
            } else {
                b'a' + value - 10
            };
        }
    }
    out
}
