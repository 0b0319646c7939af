//! What mechanisms compute from a secret key once and then share: key schedules and absorbed keys.
//!
//! Each part is made at its first use and lives as long as the key, so that an operation with a
//! token key costs what one with a session key costs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::lc::aes::AesKey;
use crate::lc::cmac::CmacKey;
use crate::lc::digest::Hash;
use crate::lc::gcm::AesGcm;
use crate::lc::hmac::HmacKey;
use crate::lc::xts::XtsKey;
use crate::lc::{Error, Secret};

/// The parts, each there once something has needed it.
#[derive(Debug, Default)]
pub struct Prepared {
    aes: OnceLock<Arc<AesKey>>,
    gcm: OnceLock<AesGcm>,
    xts: OnceLock<Arc<XtsKey>>,
    cmac: OnceLock<CmacKey>,
    hmac: OnceLock<HmacKey>,
    nonces: OnceLock<AtomicU64>,
}

impl Prepared {
    /// The schedules of an AES key.
    pub fn aes(&self, value: &Secret) -> Result<&Arc<AesKey>, Error> {
        once(&self.aes, || AesKey::new(value.expose()).map(Arc::new))
    }

    /// The context of AES-GCM.
    pub fn gcm(&self, value: &Secret) -> Result<&AesGcm, Error> {
        once(&self.gcm, || AesGcm::new(value.expose()))
    }

    /// The schedules of an AES-XTS key.
    pub fn xts(&self, value: &Secret) -> Result<&Arc<XtsKey>, Error> {
        once(&self.xts, || XtsKey::new(value.expose()).map(Arc::new))
    }

    /// The schedule and subkeys of AES-CMAC.
    pub fn cmac(&self, value: &Secret) -> Result<&CmacKey, Error> {
        once(&self.cmac, || CmacKey::new(value.expose()))
    }

    /// Uses the key as absorbed by this hash. The first hash that a key is used with is kept; a key
    /// used with a second one, which nobody should do, absorbs it each time.
    pub fn with_hmac<T>(
        &self,
        value: &Secret,
        hash: Hash,
        work: impl FnOnce(&HmacKey) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let kept = once(&self.hmac, || HmacKey::new(hash, value.expose()))?;
        if kept.hash() == hash {
            work(kept)
        } else {
            work(&HmacKey::new(hash, value.expose())?)
        }
    }

    /// A number that this key has not given before: it counts from a random one, so that a restart
    /// or a copy of the key goes on somewhere else among 2^64.
    pub fn next_nonce<E>(&self, first: impl FnOnce() -> Result<u64, E>) -> Result<u64, E> {
        let counter = once(&self.nonces, || first().map(AtomicU64::new))?;
        Ok(counter.fetch_add(1, Ordering::Relaxed))
    }
}

fn once<T, E>(cell: &OnceLock<T>, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    // Two threads may both make it; one of them wins and the other's is wiped.
    let value = make()?;
    Ok(cell.get_or_init(|| value))
}
