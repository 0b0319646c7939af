//! The verify data of TLS 1.2's Finished messages (PKCS#11 3.2, section 6.40): a MAC with the master
//! secret.

use std::sync::Arc;

use casemate_transport::message::Usage;
use casemate_transport::parameters::Parameters;
use cryptoki_sys::*;

use super::buffered::{self, MessageSigner};
use super::tls::{DERIVATION, base, invalid, prf_hash};
use super::{Environment, Info, Mechanism, Stream, secret};
use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::digest::Hash;
use crate::lc::kdf::tls12_prf;
use crate::lc::{Input, Output, Secret};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[&VerifyData(CKM_TLS12_MAC), &VerifyData(CKM_TLS_MAC)];

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
    /// The most: the parameters say how many.
    fn signature_length(&self, _: &Key) -> Result<usize, Failure> {
        Ok(*VERIFY_DATA.end())
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

impl Mechanism for VerifyData {
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

    fn output_length(
        &self,
        _: Usage,
        _: Option<&Key>,
        parameters: &[u8],
        _: usize,
    ) -> Result<(usize, bool), Failure> {
        Ok((verify_data(parameters)?.2, true))
    }

    fn sign(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        self.sign_message(key, parameters, input.to_secret().expose(), output)
    }

    fn verify(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        signature: &[u8],
    ) -> Result<(), Failure> {
        self.verify_message(key, parameters, input.to_secret().expose(), signature)
    }

    fn begin(
        &self,
        usage: Usage,
        key: Option<&Arc<Key>>,
        parameters: &[u8],
    ) -> Result<Box<dyn Stream>, Failure> {
        self.check(usage, key.map(Arc::as_ref), parameters)?;
        buffered::begin(*self, usage, key, parameters, HANDSHAKE_MAX)
    }
}
