//! Mechanisms: one file a family, each entry of the table one CK_MECHANISM_TYPE.
//!
//! A mechanism gets keys, parameters in the wire form of `transport::parameters`, and data that the
//! client may change while it is read (`Input`): families that DESIGN.md, section 6, does not name
//! copy it first. What a mechanism does not define is refused: CKR_MECHANISM_INVALID.

use std::sync::{Arc, LazyLock};

use casemate_transport::message::Usage;
use cryptoki_sys::{
    CK_FLAGS, CK_MECHANISM_TYPE, CKR_KEY_TYPE_INCONSISTENT, CKR_MECHANISM_INVALID,
    CKR_SAVED_STATE_INVALID, CKR_STATE_UNSAVEABLE,
};

use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::{Input, Output, Secret};

pub mod aes;
pub mod cmac;
pub mod combine;
pub mod curve25519;
pub mod digest;
pub mod ec;
pub mod ecdh;
pub mod gcm;
pub mod hashed;
pub mod held;
pub mod hkdf;
pub mod hmac;
pub mod kbkdf;
pub mod keywrap;
pub mod mac;
pub mod mldsa;
pub mod mlkem;
pub mod pairs;
pub mod rsa;
pub mod rsa_encrypt;
pub mod rsa_wrap;
pub mod secret;
pub mod tls;
pub mod tls_finished;
pub mod whole_message;
pub mod xts;

pub use held::HeldBytes;

#[cfg(test)]
mod tests;

/// What C_GetMechanismInfo says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Smallest key, in the unit that the standard names for the mechanism.
    pub min: u32,
    /// Largest key.
    pub max: u32,
    /// CKF_... bits; CKF_HW is never among them.
    pub flags: CK_FLAGS,
}

/// What a mechanism may need besides key, parameters and data.
pub trait Environment {
    /// Fills with random bytes of the partition's DRBG.
    fn random(&self, out: &mut [u8]) -> Result<(), Failure>;
    /// Whether the partition's policy allows what only old tests need (RSA-1024, SHA-1 signatures).
    fn legacy(&self) -> bool;
    /// Another key that the parameters name by its handle, if the caller may use it so.
    fn key(&self, handle: u64, usage: Option<Usage>) -> Result<Arc<Key>, Failure>;
}

/// A multi-part operation.
pub trait Stream: Send {
    /// Takes the next part and appends what it gives.
    fn update(&mut self, input: Input<'_>, output: &mut Output<'_>) -> Result<(), Failure>;
    /// Ends it and appends what is left: ciphertext, plaintext, digest or signature.
    fn finish(self: Box<Self>, output: &mut Output<'_>) -> Result<(), Failure>;
    /// Ends it by comparing with a signature or MAC.
    fn verify(self: Box<Self>, _signature: &[u8]) -> Result<(), Failure> {
        Err(CKR_MECHANISM_INVALID.into())
    }
    /// The most that `update` with this many bytes, or `finish` (None), would give.
    fn output_length(&self, input: Option<usize>) -> usize;
    /// Whether it keeps what it is given until it ends.
    fn gathers(&self) -> bool {
        false
    }
    /// The state of a digest, to be sealed and given to the client.
    fn save(&self) -> Result<Secret, Failure> {
        Err(CKR_STATE_UNSAVEABLE.into())
    }
}

/// A key that a mechanism made, with the attributes that follow from its value.
#[derive(Debug)]
pub struct Made {
    /// The key.
    pub key: Key,
    /// Attributes such as CKA_EC_POINT, CKA_MODULUS or CKA_VALUE_LEN.
    pub attributes: Attributes,
}

/// What a derivation gives: the key, or for mechanisms that make several, all of them.
#[derive(Debug, Default)]
pub struct Derived {
    /// The key of the template; None where the mechanism makes only further keys.
    pub key: Option<Made>,
    /// Further keys (TLS key sets, additional derived keys), each with its template's attributes.
    /// The answer's output begins with a handle for each, 0 where there is none.
    pub further: Vec<Option<(Attributes, Made)>>,
    /// Bytes that go back to the caller behind the handles (IVs, versions).
    pub output: Vec<u8>,
}

impl Derived {
    /// One key and nothing else.
    pub fn one(made: Made) -> Self {
        Self {
            key: Some(made),
            ..Self::default()
        }
    }
}

/// How what is derived relates to its base key: it decides what the result may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lineage {
    /// A one-way function of the base key.
    Function,
    /// A one-way function, part of whose output the caller gets in clear.
    Shown,
    /// A one-way function whose output is a data object.
    Data,
    /// The base key, and these further keys, can be computed from the result.
    Transparent(Vec<u64>),
}

/// A mechanism.
#[allow(unused_variables)]
pub trait Mechanism: Sync {
    /// Its type.
    fn kind(&self) -> CK_MECHANISM_TYPE;

    /// Key sizes and what it is for.
    fn info(&self) -> Info;

    /// Whether it exists only for old tests.
    fn legacy(&self) -> bool {
        false
    }

    /// Whether the key and the parameters fit the mechanism in this usage: cheap, and complete, so
    /// that C_...Init can answer by it.
    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        Err(CKR_MECHANISM_INVALID.into())
    }

    /// The most output of a whole operation over `input` bytes. Exact where the second value is
    /// true: then it does not depend on the data.
    fn output_length(
        &self,
        usage: Usage,
        key: Option<&Key>,
        parameters: &[u8],
        input: usize,
    ) -> Result<(usize, bool), Failure> {
        Err(CKR_MECHANISM_INVALID.into())
    }

    /// One whole digest.
    fn digest(
        &self,
        parameters: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let mut stream = self.begin(Usage::Digest, None, parameters)?;
        stream.update(input, output)?;
        stream.finish(output)
    }

    /// One whole signature or MAC.
    fn sign(
        &self,
        environment: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let mut stream = self.begin(Usage::Sign, Some(key), parameters)?;
        stream.update(input, output)?;
        stream.finish(output)
    }

    /// One whole verification.
    fn verify(
        &self,
        environment: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        signature: &[u8],
    ) -> Result<(), Failure> {
        let mut stream = self.begin(Usage::Verify, Some(key), parameters)?;
        stream.update(input, &mut Output::new(&mut []))?;
        stream.verify(signature)
    }

    /// One whole encryption. The output may stand where the input stands.
    fn encrypt(
        &self,
        environment: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let mut stream = self.begin(Usage::Encrypt, Some(key), parameters)?;
        stream.update(input, output)?;
        stream.finish(output)
    }

    /// One whole decryption. The output may stand where the input stands.
    fn decrypt(
        &self,
        environment: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let mut stream = self.begin(Usage::Decrypt, Some(key), parameters)?;
        stream.update(input, output)?;
        stream.finish(output)
    }

    /// Signature with recovery.
    fn sign_recover(
        &self,
        key: &Key,
        parameters: &[u8],
        input: &[u8],
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        Err(CKR_MECHANISM_INVALID.into())
    }

    /// Verification with recovery.
    fn verify_recover(
        &self,
        key: &Key,
        parameters: &[u8],
        signature: &[u8],
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        Err(CKR_MECHANISM_INVALID.into())
    }

    /// Begins a multi-part operation.
    fn begin(
        &self,
        usage: Usage,
        key: Option<&Arc<Key>>,
        parameters: &[u8],
    ) -> Result<Box<dyn Stream>, Failure> {
        Err(CKR_MECHANISM_INVALID.into())
    }

    /// Begins a multi-part operation, and says what StreamBegin answers: an IV that was made here.
    fn start(
        &self,
        environment: &dyn Environment,
        usage: Usage,
        key: Option<&Arc<Key>>,
        parameters: &[u8],
    ) -> Result<(Box<dyn Stream>, Vec<u8>), Failure> {
        Ok((self.begin(usage, key, parameters)?, Vec::new()))
    }

    /// Begins a digest from a saved state.
    fn restore(&self, state: &[u8]) -> Result<Box<dyn Stream>, Failure> {
        Err(CKR_SAVED_STATE_INVALID.into())
    }

    /// Makes a secret key as the template asks.
    fn generate(
        &self,
        environment: &dyn Environment,
        parameters: &[u8],
        template: &Attributes,
    ) -> Result<Made, Failure> {
        Err(CKR_MECHANISM_INVALID.into())
    }

    /// Makes a key pair: public, private.
    fn generate_pair(
        &self,
        environment: &dyn Environment,
        parameters: &[u8],
        public: &Attributes,
        private: &Attributes,
    ) -> Result<(Made, Made), Failure> {
        Err(CKR_MECHANISM_INVALID.into())
    }

    /// Wraps key material (its CKA_VALUE or PKCS#8 form).
    fn wrap(
        &self,
        environment: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        material: &Secret,
        associated: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        Err(CKR_MECHANISM_INVALID.into())
    }

    /// Unwraps key material.
    fn unwrap(
        &self,
        environment: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        wrapped: &[u8],
        associated: &[u8],
    ) -> Result<Secret, Failure> {
        Err(CKR_MECHANISM_INVALID.into())
    }

    /// How what `derive` gives relates to the base key.
    fn lineage(&self, parameters: &[u8]) -> Result<Lineage, Failure> {
        Ok(Lineage::Function)
    }

    /// Derives from a base key.
    fn derive(
        &self,
        environment: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        template: &Attributes,
    ) -> Result<Derived, Failure> {
        Err(CKR_MECHANISM_INVALID.into())
    }

    /// Encapsulates to a public key: ciphertext, shared secret.
    fn encapsulate(
        &self,
        environment: &dyn Environment,
        key: &Key,
        parameters: &[u8],
    ) -> Result<(Vec<u8>, Secret), Failure> {
        Err(CKR_MECHANISM_INVALID.into())
    }

    /// Opens a ciphertext with a private key.
    fn decapsulate(
        &self,
        key: &Key,
        parameters: &[u8],
        ciphertext: &[u8],
    ) -> Result<Secret, Failure> {
        Err(CKR_MECHANISM_INVALID.into())
    }
}

/// The families' tables.
const FAMILIES: &[&[&dyn Mechanism]] = &[
    rsa::TABLE,
    rsa_encrypt::TABLE,
    rsa_wrap::TABLE,
    curve25519::TABLE,
    mldsa::TABLE,
    mlkem::TABLE,
    digest::TABLE,
    hmac::TABLE,
    cmac::TABLE,
    aes::TABLE,
    xts::TABLE,
    gcm::TABLE,
    keywrap::TABLE,
    hkdf::TABLE,
    kbkdf::TABLE,
    tls::TABLE,
    tls_finished::TABLE,
    combine::TABLE,
    ec::TABLE,
    ecdh::TABLE,
];

/// Every mechanism, in the families' order.
pub fn all() -> impl Iterator<Item = &'static dyn Mechanism> {
    FAMILIES.iter().flat_map(|family| family.iter().copied())
}

/// The mechanism of this type. `legacy`: also those that only old tests need.
pub fn find(kind: CK_MECHANISM_TYPE, legacy: bool) -> Result<&'static dyn Mechanism, Failure> {
    static SORTED: LazyLock<Vec<&'static dyn Mechanism>> = LazyLock::new(|| {
        let mut sorted: Vec<_> = all().collect();
        sorted.sort_by_key(|mechanism| mechanism.kind());
        sorted
    });
    SORTED
        .binary_search_by_key(&kind, |mechanism| mechanism.kind())
        .ok()
        .and_then(|index| SORTED.get(index).copied())
        .filter(|mechanism| legacy || !mechanism.legacy())
        .ok_or(Failure::new(CKR_MECHANISM_INVALID))
}

/// The failure for a key of another type than the mechanism's.
pub(crate) fn wrong_key() -> Failure {
    CKR_KEY_TYPE_INCONSISTENT.into()
}
