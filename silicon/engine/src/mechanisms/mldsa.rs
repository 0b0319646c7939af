//! ML-DSA and HashML-DSA (PKCS#11 3.2, section 6.67).
//!
//! Signatures are hedged. A caller that requires deterministic ones (CKH_DETERMINISTIC_REQUIRED) is
//! refused: AWS-LC has no such mode, and silently hedging would be another signature.

use casemate_transport::message::Usage;
use casemate_transport::parameters::Parameters;
use cryptoki_sys::*;

use super::digest::hash_of;
use super::pairs::{Pair, PairGeneration};
use super::whole_message::{MessageSigner, WholeMessage};
use super::{Environment, Info, Mechanism, wrong_key};
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::keys::Key;
use crate::keys::postquantum::mldsa_level;
use crate::lc::digest::{Hash, digest};
use crate::lc::mldsa::{self, CONTEXT_MAX, MU, PrivateKey, PublicKey, prehash_mu};
use crate::lc::{Input, Output, Secret};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[
    &PairGeneration {
        kind: CKM_ML_DSA_KEY_PAIR_GEN,
        sizes: SIZES,
        flags: 0,
        make: generate,
    },
    &signature(CKM_ML_DSA, Form::Message),
    &signature(CKM_HASH_ML_DSA, Form::Digest),
    &signature(CKM_HASH_ML_DSA_SHA224, Form::Hashed(Hash::Sha224)),
    &signature(CKM_HASH_ML_DSA_SHA256, Form::Hashed(Hash::Sha256)),
    &signature(CKM_HASH_ML_DSA_SHA384, Form::Hashed(Hash::Sha384)),
    &signature(CKM_HASH_ML_DSA_SHA512, Form::Hashed(Hash::Sha512)),
    &signature(CKM_HASH_ML_DSA_SHA3_224, Form::Hashed(Hash::Sha3_224)),
    &signature(CKM_HASH_ML_DSA_SHA3_256, Form::Hashed(Hash::Sha3_256)),
    &signature(CKM_HASH_ML_DSA_SHA3_384, Form::Hashed(Hash::Sha3_384)),
    &signature(CKM_HASH_ML_DSA_SHA3_512, Form::Hashed(Hash::Sha3_512)),
];

/// Smallest and largest parameter set.
const SIZES: (u32, u32) = (CKP_ML_DSA_44 as u32, CKP_ML_DSA_87 as u32);

fn generate(environment: &dyn Environment, template: &Attributes) -> Result<Pair, Failure> {
    let level = mldsa_level(template)?;
    let mut seed = Secret::zeroed(mldsa::SEED);
    environment.random(seed.expose_mut())?;
    let private = PrivateKey::from_new_seed(level, seed.expose())?;
    let public = PublicKey::new(level, &private.public_key()?)?;
    Ok((
        Key::MlDsaPublic(public).made()?,
        Key::MlDsaPrivate(private).made()?,
    ))
}

/// What the data of the operation is.
#[derive(Clone, Copy)]
enum Form {
    /// The message: pure ML-DSA.
    Message,
    /// A digest that the caller made, by the hash that the parameters name.
    Digest,
    /// A message that is hashed here.
    Hashed(Hash),
}

#[derive(Clone, Copy)]
struct Signature {
    kind: CK_MECHANISM_TYPE,
    input: Form,
}

const fn signature(kind: CK_MECHANISM_TYPE, input: Form) -> WholeMessage<Signature> {
    WholeMessage(Signature { kind, input })
}

/// The hash (for `Form::Digest`) and the context that the parameters say.
fn decode(form: Form, parameters: &[u8]) -> Result<(Option<Hash>, &[u8]), Failure> {
    let invalid = Failure::new(CKR_MECHANISM_PARAM_INVALID);
    let (hash, hedge, context) = match (form, Parameters::decode(parameters).map_err(|_| invalid)?)
    {
        (Form::Message | Form::Hashed(_), Parameters::None) => (None, CKH_HEDGE_PREFERRED, &[][..]),
        (Form::Message | Form::Hashed(_), Parameters::SignContext { hedge, context }) => {
            (None, hedge, context)
        }
        (
            Form::Digest,
            Parameters::HashSignContext {
                hedge,
                context,
                hash,
            },
        ) => (Some(hash_of(hash).ok_or(invalid)?), hedge, context),
        _ => return Err(invalid),
    };
    let known = matches!(hedge, CKH_HEDGE_PREFERRED | CKH_HEDGE_REQUIRED);
    if !known || context.len() > CONTEXT_MAX {
        return Err(invalid);
    }
    Ok((hash, context))
}

impl Signature {
    /// The external mu of a pre-hash signature.
    fn mu(
        &self,
        public: &[u8],
        hash: Option<Hash>,
        data: &[u8],
        context: &[u8],
    ) -> Result<Option<[u8; MU]>, Failure> {
        match (self.input, hash) {
            (Form::Message, _) => Ok(None),
            (Form::Digest, Some(hash)) => Ok(Some(prehash_mu(public, hash, data, context)?)),
            (Form::Digest, None) => Err(CKR_MECHANISM_PARAM_INVALID.into()),
            (Form::Hashed(hash), _) => Ok(Some(prehash_mu(
                public,
                hash,
                &digest(hash, Input::new(data))?,
                context,
            )?)),
        }
    }
}

impl MessageSigner for Signature {
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
        match (usage, key) {
            (Usage::Sign, Some(Key::MlDsaPrivate(_)))
            | (Usage::Verify, Some(Key::MlDsaPublic(_))) => {
                decode(self.input, parameters).map(|_| ())
            }
            (Usage::Sign | Usage::Verify, _) => Err(wrong_key()),
            _ => Err(CKR_MECHANISM_INVALID.into()),
        }
    }

    fn signature_length(&self, key: &Key) -> Result<usize, Failure> {
        match key {
            Key::MlDsaPrivate(key) => Ok(key.level().signature_bytes()),
            _ => Err(wrong_key()),
        }
    }

    fn sign_message(
        &self,
        key: &Key,
        parameters: &[u8],
        message: &[u8],
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let Key::MlDsaPrivate(key) = key else {
            return Err(wrong_key());
        };
        let (hash, context) = decode(self.input, parameters)?;
        let signature = match self.input {
            Form::Message => key.sign(message, context)?,
            _ => match self.mu(&key.public_key()?, hash, message, context)? {
                Some(mu) => key.sign_mu(&mu)?,
                None => return Err(Failure::internal()),
            },
        };
        Ok(output.write(&signature)?)
    }

    fn verify_message(
        &self,
        key: &Key,
        parameters: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Failure> {
        let Key::MlDsaPublic(key) = key else {
            return Err(wrong_key());
        };
        if signature.len() != key.level().signature_bytes() {
            return Err(CKR_SIGNATURE_LEN_RANGE.into());
        }
        let (hash, context) = decode(self.input, parameters)?;
        match self.mu(&key.raw()?, hash, message, context)? {
            Some(mu) => Ok(key.verify_mu(&mu, signature)?),
            None => Ok(key.verify(message, context, signature)?),
        }
    }
}
