//! Mechanisms that hash first and then sign the digest: ECDSA and RSA share this.

use std::sync::Arc;

use casemate_transport::message::Usage;
use cryptoki_sys::*;

use super::Stream;
use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::digest::{Digest, Hash, digest};
use crate::lc::{Input, Output};

/// What a family does with a digest.
pub trait DigestSigner: Sync {
    /// Bytes of a signature by this key.
    fn signature_length(&self, key: &Key) -> Result<usize, Failure>;
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

/// One whole signature over a message, which is hashed where it stands.
pub fn sign(
    signer: &dyn DigestSigner,
    hash: Hash,
    key: &Key,
    input: Input<'_>,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    signer.sign_digest(key, hash, &digest(hash, input)?, output)
}

/// One whole verification.
pub fn verify(
    signer: &dyn DigestSigner,
    hash: Hash,
    key: &Key,
    input: Input<'_>,
    signature: &[u8],
) -> Result<(), Failure> {
    signer.verify_digest(key, hash, &digest(hash, input)?, signature)
}

/// Begins a signature or verification in parts.
pub fn begin<S: DigestSigner + Send + Copy + 'static>(
    signer: S,
    hash: Hash,
    usage: Usage,
    key: Option<&Arc<Key>>,
) -> Result<Box<dyn Stream>, Failure> {
    let key = key.ok_or(Failure::new(CKR_KEY_HANDLE_INVALID))?.clone();
    let length = if usage == Usage::Sign {
        signer.signature_length(&key)?
    } else {
        0
    };
    Ok(Box::new(HashedStream {
        signer,
        hash,
        key,
        length,
        state: Digest::new(hash)?,
    }))
}

struct HashedStream<S> {
    signer: S,
    hash: Hash,
    key: Arc<Key>,
    length: usize,
    state: Digest,
}

impl<S: DigestSigner + Send> Stream for HashedStream<S> {
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
