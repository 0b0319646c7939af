//! RSA key pairs and signatures (PKCS#11 3.2, sections 6.1.4 to 6.1.13).
//!
//! SHA-1 signatures and 1024-bit keys exist for outside suites only (policy `legacy-test`).

use casemate_transport::message::Usage;
use casemate_transport::parameters::Parameters;
use cryptoki_sys::*;

use super::digest::hash_of;
use super::hashed::{DigestSigner, Hashing, Scheme, mask_of};
use super::pairs::{Pair, PairGeneration};
use super::whole_message::{MessageSigner, WholeMessage};
use super::{Environment, Info, Mechanism, secret, wrong_key};
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::digest::Hash;
use crate::lc::rsa::{PrivateKey, sign::Pss};
use crate::lc::{Output, rsa};

/// The family's mechanisms for keys and signatures; encryption stands in `rsa_encrypt`.
pub const TABLE: &[&dyn Mechanism] = &[
    &PairGeneration {
        kind: CKM_RSA_PKCS_KEY_PAIR_GEN,
        sizes: SIZES,
        flags: 0,
        make: generate,
    },
    &Hashing::new(CKM_SHA1_RSA_PKCS, Hash::Sha1, Padding::Pkcs1),
    &Hashing::new(CKM_SHA224_RSA_PKCS, Hash::Sha224, Padding::Pkcs1),
    &Hashing::new(CKM_SHA256_RSA_PKCS, Hash::Sha256, Padding::Pkcs1),
    &Hashing::new(CKM_SHA384_RSA_PKCS, Hash::Sha384, Padding::Pkcs1),
    &Hashing::new(CKM_SHA512_RSA_PKCS, Hash::Sha512, Padding::Pkcs1),
    &Hashing::new(CKM_SHA3_224_RSA_PKCS, Hash::Sha3_224, Padding::Pkcs1),
    &Hashing::new(CKM_SHA3_256_RSA_PKCS, Hash::Sha3_256, Padding::Pkcs1),
    &Hashing::new(CKM_SHA3_384_RSA_PKCS, Hash::Sha3_384, Padding::Pkcs1),
    &Hashing::new(CKM_SHA3_512_RSA_PKCS, Hash::Sha3_512, Padding::Pkcs1),
    &WholeMessage(RawPss),
    &Hashing::new(CKM_SHA1_RSA_PKCS_PSS, Hash::Sha1, Padding::Pss),
    &Hashing::new(CKM_SHA224_RSA_PKCS_PSS, Hash::Sha224, Padding::Pss),
    &Hashing::new(CKM_SHA256_RSA_PKCS_PSS, Hash::Sha256, Padding::Pss),
    &Hashing::new(CKM_SHA384_RSA_PKCS_PSS, Hash::Sha384, Padding::Pss),
    &Hashing::new(CKM_SHA512_RSA_PKCS_PSS, Hash::Sha512, Padding::Pss),
    &Hashing::new(CKM_SHA3_224_RSA_PKCS_PSS, Hash::Sha3_224, Padding::Pss),
    &Hashing::new(CKM_SHA3_256_RSA_PKCS_PSS, Hash::Sha3_256, Padding::Pss),
    &Hashing::new(CKM_SHA3_384_RSA_PKCS_PSS, Hash::Sha3_384, Padding::Pss),
    &Hashing::new(CKM_SHA3_512_RSA_PKCS_PSS, Hash::Sha3_512, Padding::Pss),
];

/// Smallest and largest modulus in bits that C_GetMechanismInfo shows.
pub(super) const SIZES: (u32, u32) = (2048, 4096);

fn generate(environment: &dyn Environment, template: &Attributes) -> Result<Pair, Failure> {
    let bits = template
        .number(CKA_MODULUS_BITS)?
        .ok_or(Failure::new(CKR_TEMPLATE_INCOMPLETE))?;
    let bits = usize::try_from(bits).map_err(|_| Failure::new(CKR_KEY_SIZE_RANGE))?;
    let exponent = template.get(CKA_PUBLIC_EXPONENT).unwrap_or(&[1, 0, 1]);
    let private = PrivateKey::generate(bits, exponent, environment.legacy())?;
    let mut public = Key::RsaPublic(private.public()?).made()?;
    // The exponent stays as the caller wrote it, leading zeros and all.
    public.attributes.set(CKA_PUBLIC_EXPONENT, exponent);
    Ok((public, Key::RsaPrivate(private).made()?))
}

/// How a digest becomes as long as the modulus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Padding {
    Pkcs1,
    Pss,
}

/// The PSS parameters, which must name `hash` where the mechanism fixes it.
pub(super) fn pss(parameters: &[u8], hash: Option<Hash>) -> Result<Pss, Failure> {
    let invalid = Failure::new(CKR_MECHANISM_PARAM_INVALID);
    let Ok(Parameters::Pss(given)) = Parameters::decode(parameters) else {
        return Err(invalid);
    };
    let pss = Pss {
        hash: hash_of(given.hash).ok_or(invalid)?,
        mask: mask_of(given.mgf).ok_or(invalid)?,
        salt: usize::try_from(given.salt_length).map_err(|_| invalid)?,
    };
    if hash.is_some_and(|hash| hash != pss.hash) || pss.salt > 512 {
        return Err(invalid);
    }
    Ok(pss)
}

/// What signs digests with one padding and, for PSS, its parameters.
#[derive(Clone, Copy)]
struct Signer(Option<Pss>);

impl DigestSigner for Signer {
    fn signature_length(key: &Key) -> Result<usize, Failure> {
        signature_length(key)
    }

    fn sign_digest(
        &self,
        key: &Key,
        hash: Hash,
        digest: &[u8],
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let Key::RsaPrivate(key) = key else {
            return Err(wrong_key());
        };
        let mut signature = [0u8; 512];
        let length = match &self.0 {
            None => key.sign_pkcs1(hash, digest, &mut signature)?,
            Some(pss) => key.sign_pss(pss, digest, &mut signature)?,
        };
        Ok(output.write(signature.get(..length).unwrap_or(&[]))?)
    }

    fn verify_digest(
        &self,
        key: &Key,
        hash: Hash,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<(), Failure> {
        let Key::RsaPublic(key) = key else {
            return Err(wrong_key());
        };
        require_length(key, signature)?;
        match &self.0 {
            None => Ok(key.verify_pkcs1(hash, digest, signature)?),
            Some(pss) => Ok(key.verify_pss(pss, digest, signature)?),
        }
    }
}

/// Bytes of a signature: those of the modulus.
pub(super) fn signature_length(key: &Key) -> Result<usize, Failure> {
    match key {
        Key::RsaPrivate(key) => Ok(key.bytes()),
        _ => Err(wrong_key()),
    }
}

/// Fails unless the signature is as long as the modulus.
pub(super) fn require_length(key: &rsa::PublicKey, signature: &[u8]) -> Result<(), Failure> {
    if signature.len() == key.bytes() {
        Ok(())
    } else {
        Err(CKR_SIGNATURE_LEN_RANGE.into())
    }
}

fn check_signature(usage: Usage, key: Option<&Key>) -> Result<(), Failure> {
    match (usage, key) {
        (Usage::Sign, Some(Key::RsaPrivate(_))) | (Usage::Verify, Some(Key::RsaPublic(_))) => {
            Ok(())
        }
        (Usage::Sign | Usage::Verify, _) => Err(wrong_key()),
        _ => Err(CKR_MECHANISM_INVALID.into()),
    }
}

fn info() -> Info {
    Info {
        min: SIZES.0,
        max: SIZES.1,
        flags: CKF_SIGN | CKF_VERIFY,
    }
}

/// The mechanisms that hash the message themselves.
impl Scheme for Padding {
    type Signer = Signer;

    fn info(&self) -> Info {
        info()
    }

    fn check(
        &self,
        hash: Hash,
        usage: Usage,
        key: Option<&Key>,
        parameters: &[u8],
    ) -> Result<(), Failure> {
        check_signature(usage, key)?;
        self.signer(hash, parameters).map(|_| ())
    }

    fn signer(&self, hash: Hash, parameters: &[u8]) -> Result<Signer, Failure> {
        match self {
            Self::Pkcs1 => secret::none(parameters).map(|()| Signer(None)),
            Self::Pss => pss(parameters, Some(hash)).map(|pss| Signer(Some(pss))),
        }
    }
}

/// CKM_RSA_PKCS_PSS: over a digest that the caller made.
#[derive(Clone, Copy)]
struct RawPss;

impl MessageSigner for RawPss {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        CKM_RSA_PKCS_PSS
    }

    fn info(&self) -> Info {
        info()
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        check_signature(usage, key)?;
        pss(parameters, None).map(|_| ())
    }

    fn allow(&self, environment: &dyn Environment, parameters: &[u8]) -> Result<(), Failure> {
        if pss(parameters, None)?.hash == Hash::Sha1 && !environment.legacy() {
            return Err(CKR_MECHANISM_PARAM_INVALID.into());
        }
        Ok(())
    }

    fn signature_length(&self, key: &Key) -> Result<usize, Failure> {
        signature_length(key)
    }

    fn sign_message(
        &self,
        key: &Key,
        parameters: &[u8],
        message: &[u8],
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let pss = pss(parameters, None)?;
        require_digest(pss.hash, message)?;
        Signer(Some(pss)).sign_digest(key, pss.hash, message, output)
    }

    fn verify_message(
        &self,
        key: &Key,
        parameters: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Failure> {
        let pss = pss(parameters, None)?;
        require_digest(pss.hash, message)?;
        Signer(Some(pss)).verify_digest(key, pss.hash, message, signature)
    }
}

fn require_digest(hash: Hash, digest: &[u8]) -> Result<(), Failure> {
    if digest.len() == hash.bytes() {
        Ok(())
    } else {
        Err(CKR_DATA_LEN_RANGE.into())
    }
}
