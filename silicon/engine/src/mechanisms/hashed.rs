//! Mechanisms that hash the message and then sign the digest: a family (ECDSA, RSA) is a `Scheme`,
//! and `Hashing` makes the mechanism of it and a hash. The message is hashed where it stands.

use std::sync::Arc;

use casemate_transport::message::Usage;
use cryptoki_sys::*;

use super::{Environment, Info, Mechanism, Stream, wrong_key};
use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::digest::{Digest, Hash, digest};
use crate::lc::{Input, Output};

/// What a family does with a digest.
pub trait DigestSigner: Copy + Send + Sync + 'static {
    /// Bytes of a signature by this key.
    fn signature_length(key: &Key) -> Result<usize, Failure>;
    /// Signs a digest.
    fn sign_digest(
        &self,
        key: &Key,
        hash: Hash,
        digest: &[u8],
        output: &mut Output<'_>,
    ) -> Result<(), Failure>;
    /// Verifies a signature over a digest.
    fn verify_digest(
        &self,
        key: &Key,
        hash: Hash,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<(), Failure>;
}

/// What a family's mechanisms have in common, whatever their hash.
pub trait Scheme: Sync {
    /// What signs the digests.
    type Signer: DigestSigner;

    /// As in `Mechanism`.
    fn info(&self) -> Info;
    /// As in `Mechanism`.
    fn check(
        &self,
        hash: Hash,
        usage: Usage,
        key: Option<&Key>,
        parameters: &[u8],
    ) -> Result<(), Failure>;
    /// The signer that the parameters describe.
    fn signer(&self, hash: Hash, parameters: &[u8]) -> Result<Self::Signer, Failure>;
}

/// The mechanism of a scheme with one hash.
pub struct Hashing<S> {
    kind: CK_MECHANISM_TYPE,
    hash: Hash,
    scheme: S,
}

impl<S> Hashing<S> {
    /// Of this type.
    pub const fn new(kind: CK_MECHANISM_TYPE, hash: Hash, scheme: S) -> Self {
        Self { kind, hash, scheme }
    }
}

impl<S: Scheme> Mechanism for Hashing<S> {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        self.kind
    }

    fn info(&self) -> Info {
        self.scheme.info()
    }

    fn legacy(&self) -> bool {
        self.hash == Hash::Sha1
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        self.scheme.check(self.hash, usage, key, parameters)
    }

    fn output_length(
        &self,
        _: Usage,
        key: Option<&Key>,
        _: &[u8],
        _: usize,
    ) -> Result<(usize, bool), Failure> {
        let length = S::Signer::signature_length(key.ok_or_else(wrong_key)?)?;
        Ok((length, true))
    }

    fn sign(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let signer = self.scheme.signer(self.hash, parameters)?;
        signer.sign_digest(key, self.hash, &digest(self.hash, input)?, output)
    }

    fn verify(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        signature: &[u8],
    ) -> Result<(), Failure> {
        let signer = self.scheme.signer(self.hash, parameters)?;
        signer.verify_digest(key, self.hash, &digest(self.hash, input)?, signature)
    }

    fn begin(
        &self,
        usage: Usage,
        key: Option<&Arc<Key>>,
        parameters: &[u8],
    ) -> Result<Box<dyn Stream>, Failure> {
        let signer = self.scheme.signer(self.hash, parameters)?;
        let key = key.ok_or(Failure::new(CKR_KEY_HANDLE_INVALID))?.clone();
        let length = if usage == Usage::Sign {
            S::Signer::signature_length(&key)?
        } else {
            0
        };
        Ok(Box::new(HashedStream {
            signer,
            hash: self.hash,
            key,
            length,
            state: Digest::new(self.hash)?,
        }))
    }
}

struct HashedStream<S> {
    signer: S,
    hash: Hash,
    key: Arc<Key>,
    length: usize,
    state: Digest,
}

impl<S: DigestSigner> Stream for HashedStream<S> {
    fn update(&mut self, input: Input<'_>, _: &mut Output<'_>) -> Result<(), Failure> {
        Ok(self.state.update(input)?)
    }

    fn finish(self: Box<Self>, output: &mut Output<'_>) -> Result<(), Failure> {
        let digest = self.state.finish()?;
        self.signer
            .sign_digest(&self.key, self.hash, &digest, output)
    }

    fn verify(self: Box<Self>, signature: &[u8]) -> Result<(), Failure> {
        let digest = self.state.finish()?;
        self.signer
            .verify_digest(&self.key, self.hash, &digest, signature)
    }

    fn output_length(&self, input: Option<usize>) -> usize {
        if input.is_none() { self.length } else { 0 }
    }
}

/// The hash of a mask generation function (CK_RSA_PKCS_MGF_TYPE).
pub fn mask_of(mgf: CK_RSA_PKCS_MGF_TYPE) -> Option<Hash> {
    Some(match mgf {
        CKG_MGF1_SHA1 => Hash::Sha1,
        CKG_MGF1_SHA224 => Hash::Sha224,
        CKG_MGF1_SHA256 => Hash::Sha256,
        CKG_MGF1_SHA384 => Hash::Sha384,
        CKG_MGF1_SHA512 => Hash::Sha512,
        CKG_MGF1_SHA3_224 => Hash::Sha3_224,
        CKG_MGF1_SHA3_256 => Hash::Sha3_256,
        CKG_MGF1_SHA3_384 => Hash::Sha3_384,
        CKG_MGF1_SHA3_512 => Hash::Sha3_512,
        _ => return None,
    })
}
