//! HMAC, whole and truncated, and its keys (PKCS#11 3.2, sections 6.20 to 6.32).

use std::sync::Arc;

use casemate_transport::message::Usage;
use cryptoki_sys::*;

use super::secret::{self, Generation};
use super::{Environment, Info, Mechanism, Stream};
use crate::failure::Failure;
use crate::keys::Key;
use crate::keys::secret::SECRET_MAX;
use crate::lc::digest::{Hash, Value};
use crate::lc::{Input, Output, hmac};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[
    &Generation {
        kind: CKM_GENERIC_SECRET_KEY_GEN,
        makes: CKK_GENERIC_SECRET,
        usual: None,
        sizes: SIZES,
    },
    &mac(CKM_SHA_1_HMAC, Hash::Sha1, CKK_SHA_1_HMAC),
    &general(CKM_SHA_1_HMAC_GENERAL, Hash::Sha1, CKK_SHA_1_HMAC),
    &generation(CKM_SHA_1_KEY_GEN, Hash::Sha1, CKK_SHA_1_HMAC),
    &mac(CKM_SHA224_HMAC, Hash::Sha224, CKK_SHA224_HMAC),
    &general(CKM_SHA224_HMAC_GENERAL, Hash::Sha224, CKK_SHA224_HMAC),
    &generation(CKM_SHA224_KEY_GEN, Hash::Sha224, CKK_SHA224_HMAC),
    &mac(CKM_SHA256_HMAC, Hash::Sha256, CKK_SHA256_HMAC),
    &general(CKM_SHA256_HMAC_GENERAL, Hash::Sha256, CKK_SHA256_HMAC),
    &generation(CKM_SHA256_KEY_GEN, Hash::Sha256, CKK_SHA256_HMAC),
    &mac(CKM_SHA384_HMAC, Hash::Sha384, CKK_SHA384_HMAC),
    &general(CKM_SHA384_HMAC_GENERAL, Hash::Sha384, CKK_SHA384_HMAC),
    &generation(CKM_SHA384_KEY_GEN, Hash::Sha384, CKK_SHA384_HMAC),
    &mac(CKM_SHA512_HMAC, Hash::Sha512, CKK_SHA512_HMAC),
    &general(CKM_SHA512_HMAC_GENERAL, Hash::Sha512, CKK_SHA512_HMAC),
    &generation(CKM_SHA512_KEY_GEN, Hash::Sha512, CKK_SHA512_HMAC),
    &mac(CKM_SHA512_224_HMAC, Hash::Sha512_224, CKK_SHA512_224_HMAC),
    &general(
        CKM_SHA512_224_HMAC_GENERAL,
        Hash::Sha512_224,
        CKK_SHA512_224_HMAC,
    ),
    &generation(
        CKM_SHA512_224_KEY_GEN,
        Hash::Sha512_224,
        CKK_SHA512_224_HMAC,
    ),
    &mac(CKM_SHA512_256_HMAC, Hash::Sha512_256, CKK_SHA512_256_HMAC),
    &general(
        CKM_SHA512_256_HMAC_GENERAL,
        Hash::Sha512_256,
        CKK_SHA512_256_HMAC,
    ),
    &generation(
        CKM_SHA512_256_KEY_GEN,
        Hash::Sha512_256,
        CKK_SHA512_256_HMAC,
    ),
    &mac(CKM_SHA3_224_HMAC, Hash::Sha3_224, CKK_SHA3_224_HMAC),
    &general(CKM_SHA3_224_HMAC_GENERAL, Hash::Sha3_224, CKK_SHA3_224_HMAC),
    &generation(CKM_SHA3_224_KEY_GEN, Hash::Sha3_224, CKK_SHA3_224_HMAC),
    &mac(CKM_SHA3_256_HMAC, Hash::Sha3_256, CKK_SHA3_256_HMAC),
    &general(CKM_SHA3_256_HMAC_GENERAL, Hash::Sha3_256, CKK_SHA3_256_HMAC),
    &generation(CKM_SHA3_256_KEY_GEN, Hash::Sha3_256, CKK_SHA3_256_HMAC),
    &mac(CKM_SHA3_384_HMAC, Hash::Sha3_384, CKK_SHA3_384_HMAC),
    &general(CKM_SHA3_384_HMAC_GENERAL, Hash::Sha3_384, CKK_SHA3_384_HMAC),
    &generation(CKM_SHA3_384_KEY_GEN, Hash::Sha3_384, CKK_SHA3_384_HMAC),
    &mac(CKM_SHA3_512_HMAC, Hash::Sha3_512, CKK_SHA3_512_HMAC),
    &general(CKM_SHA3_512_HMAC_GENERAL, Hash::Sha3_512, CKK_SHA3_512_HMAC),
    &generation(CKM_SHA3_512_KEY_GEN, Hash::Sha3_512, CKK_SHA3_512_HMAC),
];

/// Bytes of a key.
const SIZES: (u32, u32) = (1, SECRET_MAX as u32);

const fn mac(kind: CK_MECHANISM_TYPE, hash: Hash, key: CK_KEY_TYPE) -> Hmac {
    Hmac {
        kind,
        hash,
        key,
        general: false,
    }
}

const fn general(kind: CK_MECHANISM_TYPE, hash: Hash, key: CK_KEY_TYPE) -> Hmac {
    Hmac {
        kind,
        hash,
        key,
        general: true,
    }
}

const fn generation(kind: CK_MECHANISM_TYPE, hash: Hash, makes: CK_KEY_TYPE) -> Generation {
    Generation {
        kind,
        makes,
        usual: Some(hash.bytes()),
        sizes: SIZES,
    }
}

struct Hmac {
    kind: CK_MECHANISM_TYPE,
    hash: Hash,
    /// The key type that belongs to the hash; a generic secret fits each.
    key: CK_KEY_TYPE,
    /// Whether the parameter says how many bytes of the MAC are wanted.
    general: bool,
}

impl Hmac {
    fn length(&self, parameters: &[u8]) -> Result<usize, Failure> {
        if self.general {
            secret::mac_length(parameters, self.hash.bytes())
        } else {
            secret::none(parameters)?;
            Ok(self.hash.bytes())
        }
    }

    fn run(
        &self,
        key: &Key,
        parameters: &[u8],
        input: Input<'_>,
    ) -> Result<(Value, usize), Failure> {
        let length = self.length(parameters)?;
        let key = secret::of_type(Some(key), &[self.key, CKK_GENERIC_SECRET])?;
        Ok((key.with_hmac(self.hash, |key| key.mac(input))?, length))
    }
}

impl Mechanism for Hmac {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        self.kind
    }

    fn info(&self) -> Info {
        Info {
            min: SIZES.0,
            max: SIZES.1,
            flags: CKF_SIGN | CKF_VERIFY,
        }
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        if !matches!(usage, Usage::Sign | Usage::Verify) {
            return Err(CKR_MECHANISM_INVALID.into());
        }
        self.length(parameters)?;
        secret::of_type(key, &[self.key, CKK_GENERIC_SECRET]).map(|_| ())
    }

    fn output_length(
        &self,
        _: Usage,
        _: Option<&Key>,
        parameters: &[u8],
        _: usize,
    ) -> Result<(usize, bool), Failure> {
        Ok((self.length(parameters)?, true))
    }

    fn sign(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let (value, length) = self.run(key, parameters, input)?;
        Ok(output.write(value.get(..length).unwrap_or(&value))?)
    }

    fn verify(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        signature: &[u8],
    ) -> Result<(), Failure> {
        let (value, length) = self.run(key, parameters, input)?;
        secret::compare(value.get(..length).unwrap_or(&value), signature)
    }

    fn begin(
        &self,
        usage: Usage,
        key: Option<&Arc<Key>>,
        parameters: &[u8],
    ) -> Result<Box<dyn Stream>, Failure> {
        self.check(usage, key.map(Arc::as_ref), parameters)?;
        let key = secret::of_type(key.map(Arc::as_ref), &[self.key, CKK_GENERIC_SECRET])?;
        Ok(Box::new(Running {
            state: key.with_hmac(self.hash, |key| Ok(key.begin()))?,
            length: self.length(parameters)?,
        }))
    }
}

struct Running {
    state: hmac::Hmac,
    length: usize,
}

impl Stream for Running {
    fn update(&mut self, input: Input<'_>, _: &mut Output<'_>) -> Result<(), Failure> {
        Ok(self.state.update(input)?)
    }

    fn finish(self: Box<Self>, output: &mut Output<'_>) -> Result<(), Failure> {
        let value = self.state.finish()?;
        Ok(output.write(value.get(..self.length).unwrap_or(&value))?)
    }

    fn verify(self: Box<Self>, signature: &[u8]) -> Result<(), Failure> {
        let value = self.state.finish()?;
        secret::compare(value.get(..self.length).unwrap_or(&value), signature)
    }

    fn output_length(&self, input: Option<usize>) -> usize {
        input.map_or(self.length, |_| 0)
    }
}
