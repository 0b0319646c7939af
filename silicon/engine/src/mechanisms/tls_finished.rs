//! The verify data of TLS 1.2's Finished messages (PKCS#11 3.2, section 6.40): a MAC with the master
//! secret.

use casemate_transport::message::Usage;
use casemate_transport::parameters::Parameters;
use cryptoki_sys::*;

use super::tls::{DERIVATION, base, invalid, prf_hash};
use super::whole_message::{MessageSigner, WholeMessage};
use super::{Info, Mechanism, secret};
use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::digest::Hash;
use crate::lc::kdf::tls12_prf;
use crate::lc::{Output, Secret};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[
    &WholeMessage(VerifyData(CKM_TLS12_MAC)),
    &WholeMessage(VerifyData(CKM_TLS_MAC)),
];

/// Bytes of verify data, least and most.
const VERIFY_DATA: std::ops::RangeInclusive<usize> = 12..=64;
/// Most bytes that verify data are made over: a hash of the handshake.
const HANDSHAKE_MAX: usize = 4096;

/// The verify data of a Finished message.
#[derive(Clone, Copy)]
struct VerifyData(CK_MECHANISM_TYPE);

/// Hash, label, bytes of verify data.
fn verify_data(parameters: &[u8]) -> Result<(Hash, &'static [u8], usize), Failure> {
    let Parameters::TlsMac { prf, length, side } = secret::decode(parameters)? else {
        return Err(invalid());
    };
    let label: &[u8] = match side {
        1 => b"server finished",
        2 => b"client finished",
        _ => return Err(invalid()),
    };
    let length = usize::try_from(length)
        .ok()
        .filter(|length| VERIFY_DATA.contains(length))
        .ok_or(invalid())?;
    Ok((prf_hash(prf)?, label, length))
}

fn make_verify_data(key: &Key, parameters: &[u8], message: &[u8]) -> Result<Secret, Failure> {
    let (hash, label, length) = verify_data(parameters)?;
    if message.len() > HANDSHAKE_MAX {
        return Err(CKR_DATA_LEN_RANGE.into());
    }
    let master = base(Some(key))?.value().expose();
    Ok(tls12_prf(hash, master, label, [message, &[]], length)?)
}

impl MessageSigner for VerifyData {
    const MESSAGE_MAX: usize = HANDSHAKE_MAX;

    fn kind(&self) -> CK_MECHANISM_TYPE {
        self.0
    }

    fn info(&self) -> Info {
        Info {
            flags: CKF_SIGN | CKF_VERIFY,
            ..DERIVATION
        }
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        if !matches!(usage, Usage::Sign | Usage::Verify) {
            return Err(CKR_MECHANISM_INVALID.into());
        }
        verify_data(parameters)?;
        base(key).map(|_| ())
    }

    /// The most: the parameters say how many.
    fn signature_length(&self, _: &Key) -> Result<usize, Failure> {
        Ok(*VERIFY_DATA.end())
    }

    fn exact_length(&self, _: Option<&Key>, parameters: &[u8]) -> Result<usize, Failure> {
        Ok(verify_data(parameters)?.2)
    }

    fn sign_message(
        &self,
        key: &Key,
        parameters: &[u8],
        message: &[u8],
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        Ok(output.write(make_verify_data(key, parameters, message)?.expose())?)
    }

    fn verify_message(
        &self,
        key: &Key,
        parameters: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Failure> {
        secret::compare(
            make_verify_data(key, parameters, message)?.expose(),
            signature,
        )
    }
}
