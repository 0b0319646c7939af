//! Digests: SHA-2, SHA-3, and SHA-1 for what still asks for it (PKCS#11 3.2, sections 6.20 to 6.32).

use std::sync::Arc;

use casemate_transport::message::Usage;
use cryptoki_sys::{
    CK_MECHANISM_TYPE, CKF_DIGEST, CKM_SHA_1, CKM_SHA3_224, CKM_SHA3_256, CKM_SHA3_384,
    CKM_SHA3_512, CKM_SHA224, CKM_SHA256, CKM_SHA384, CKM_SHA512, CKM_SHA512_224, CKM_SHA512_256,
    CKR_MECHANISM_INVALID, CKR_SAVED_STATE_INVALID, CKR_STATE_UNSAVEABLE,
};

use super::{Info, Mechanism, Stream, secret};
use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::digest::{self, Hash};
use crate::lc::{Input, Output, Secret};

const fn sha(kind: CK_MECHANISM_TYPE, hash: Hash) -> Sha {
    Sha { kind, hash }
}

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[
    &sha(CKM_SHA_1, Hash::Sha1),
    &sha(CKM_SHA224, Hash::Sha224),
    &sha(CKM_SHA256, Hash::Sha256),
    &sha(CKM_SHA384, Hash::Sha384),
    &sha(CKM_SHA512, Hash::Sha512),
    &sha(CKM_SHA512_224, Hash::Sha512_224),
    &sha(CKM_SHA512_256, Hash::Sha512_256),
    &sha(CKM_SHA3_224, Hash::Sha3_224),
    &sha(CKM_SHA3_256, Hash::Sha3_256),
    &sha(CKM_SHA3_384, Hash::Sha3_384),
    &sha(CKM_SHA3_512, Hash::Sha3_512),
];

/// The hash function that a digest mechanism names, as parameters of other mechanisms do.
pub fn hash_of(kind: CK_MECHANISM_TYPE) -> Option<Hash> {
    Some(match kind {
        CKM_SHA_1 => Hash::Sha1,
        CKM_SHA224 => Hash::Sha224,
        CKM_SHA256 => Hash::Sha256,
        CKM_SHA384 => Hash::Sha384,
        CKM_SHA512 => Hash::Sha512,
        CKM_SHA512_224 => Hash::Sha512_224,
        CKM_SHA512_256 => Hash::Sha512_256,
        CKM_SHA3_224 => Hash::Sha3_224,
        CKM_SHA3_256 => Hash::Sha3_256,
        CKM_SHA3_384 => Hash::Sha3_384,
        CKM_SHA3_512 => Hash::Sha3_512,
        _ => return None,
    })
}

struct Sha {
    kind: CK_MECHANISM_TYPE,
    hash: Hash,
}

impl Mechanism for Sha {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        self.kind
    }

    fn info(&self) -> Info {
        Info {
            min: 0,
            max: 0,
            flags: CKF_DIGEST,
        }
    }

    fn check(&self, usage: Usage, _: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        match usage {
            Usage::Digest => secret::none(parameters),
            _ => Err(CKR_MECHANISM_INVALID.into()),
        }
    }

    fn output_length(
        &self,
        _: Usage,
        _: Option<&Key>,
        _: &[u8],
        _: usize,
    ) -> Result<(usize, bool), Failure> {
        Ok((self.hash.bytes(), true))
    }

    fn digest(&self, _: &[u8], input: Input<'_>, output: &mut Output<'_>) -> Result<(), Failure> {
        Ok(output.write(&digest::digest(self.hash, input)?)?)
    }

    fn begin(&self, _: Usage, _: Option<&Arc<Key>>, _: &[u8]) -> Result<Box<dyn Stream>, Failure> {
        Ok(Box::new(Running(digest::Digest::new(self.hash)?)))
    }

    fn restore(&self, state: &[u8]) -> Result<Box<dyn Stream>, Failure> {
        let restored = digest::Digest::restore(self.hash, state)
            .map_err(|_| Failure::new(CKR_SAVED_STATE_INVALID))?;
        Ok(Box::new(Running(restored)))
    }
}

struct Running(digest::Digest);

impl Stream for Running {
    fn update(&mut self, input: Input<'_>, _: &mut Output<'_>) -> Result<(), Failure> {
        Ok(self.0.update(input)?)
    }

    fn finish(self: Box<Self>, output: &mut Output<'_>) -> Result<(), Failure> {
        Ok(output.write(&self.0.finish()?)?)
    }

    fn output_length(&self, input: Option<usize>) -> usize {
        input.map_or(self.0.hash().bytes(), |_| 0)
    }

    fn save(&self) -> Result<Secret, Failure> {
        let state = self.0.save().ok_or(Failure::new(CKR_STATE_UNSAVEABLE))?;
        Ok(Secret::from(state.into_boxed_slice()))
    }
}
