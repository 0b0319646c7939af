//! EdDSA and the key pairs of Ed25519 and X25519 (PKCS#11 3.2, sections 6.3.14 to 6.3.16).
//!
//! Agreement with X25519 is CKM_ECDH1_DERIVE (`ecdh`). Messages are copied before they are signed:
//! see `lc::edwards`.

use casemate_transport::message::Usage;
use casemate_transport::parameters::Parameters;
use cryptoki_sys::*;

use super::pairs::{Pair, PairGeneration};
use super::whole_message::{MessageSigner, WholeMessage};
use super::{Environment, Info, Made, Mechanism, wrong_key};
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::keys::Key;
use crate::keys::curve25519::Form;
use crate::lc::edwards::{self, Scheme};
use crate::lc::{Output, Secret, ed448, montgomery};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[
    &PairGeneration {
        kind: CKM_EC_EDWARDS_KEY_PAIR_GEN,
        sizes: SIZES,
        flags: CURVES,
        make: |environment, template| generate(Form::Edwards, environment, template),
    },
    &PairGeneration {
        kind: CKM_EC_MONTGOMERY_KEY_PAIR_GEN,
        sizes: SIZES,
        flags: CURVES,
        make: |environment, template| generate(Form::Montgomery, environment, template),
    },
    &WholeMessage(Eddsa),
];

/// Bits of the field that C_GetMechanismInfo shows.
const SIZES: (u32, u32) = (255, 255);
const CURVES: CK_FLAGS = CKF_EC_CURVENAME | CKF_EC_OID;

fn generate(
    form: Form,
    environment: &dyn Environment,
    template: &Attributes,
) -> Result<Pair, Failure> {
    // Whether the partition takes such a key is asked where objects are added.
    let form = match form {
        Form::Edwards if Form::Ed448.require(template).is_ok() => Form::Ed448,
        form => form,
    };
    form.require(template)?;
    let mut seed = Secret::zeroed(if form == Form::Ed448 {
        ed448::BYTES
    } else {
        32
    });
    environment.random(seed.expose_mut())?;
    let (public_key, private_key) = match form {
        Form::Ed448 => {
            let key = ed448::PrivateKey::from_seed(seed.expose())?;
            (Key::Ed448Public(key.public_key()), Key::Ed448Private(key))
        }
        Form::Edwards => {
            let key = edwards::PrivateKey::from_new_seed(seed.expose())?;
            (
                Key::EdwardsPublic(key.public_key()),
                Key::EdwardsPrivate(key),
            )
        }
        Form::Montgomery => {
            let key = montgomery::PrivateKey::from_new_bytes(seed.expose())?;
            (
                Key::MontgomeryPublic(key.public_key()),
                Key::MontgomeryPrivate(key),
            )
        }
    };
    let name = template.get(CKA_EC_PARAMS).unwrap_or(&[]);
    let with_name = |mut made: Made| {
        made.attributes.set(CKA_EC_PARAMS, name);
        made
    };
    Ok((
        with_name(public_key.made()?),
        with_name(private_key.made()?),
    ))
}

#[derive(Clone, Copy)]
struct Eddsa;

fn scheme(parameters: &[u8]) -> Result<Scheme<'_>, Failure> {
    match Parameters::decode(parameters) {
        Ok(Parameters::None) => Ok(Scheme::Pure),
        Ok(Parameters::Eddsa {
            prehash: true,
            context,
        }) => Ok(Scheme::Prehash(context)),
        Ok(Parameters::Eddsa {
            prehash: false,
            context: [],
        }) => Ok(Scheme::Pure),
        Ok(Parameters::Eddsa {
            prehash: false,
            context,
        }) => Ok(Scheme::Context(context)),
        _ => Err(CKR_MECHANISM_PARAM_INVALID.into()),
    }
}

/// The scheme as Ed448 has it: there, no context and an empty one are the same.
fn halves(scheme: Scheme<'_>) -> (bool, &[u8]) {
    match scheme {
        Scheme::Pure => (false, &[]),
        Scheme::Context(context) => (false, context),
        Scheme::Prehash(context) => (true, context),
    }
}

impl MessageSigner for Eddsa {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        CKM_EDDSA
    }

    fn info(&self) -> Info {
        Info {
            min: SIZES.0,
            max: SIZES.1,
            flags: CKF_SIGN | CKF_VERIFY | CURVES,
        }
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        match (usage, key) {
            (Usage::Sign, Some(Key::EdwardsPrivate(_) | Key::Ed448Private(_)))
            | (Usage::Verify, Some(Key::EdwardsPublic(_) | Key::Ed448Public(_))) => {
                scheme(parameters).map(|_| ())
            }
            (Usage::Sign | Usage::Verify, _) => Err(wrong_key()),
            _ => Err(CKR_MECHANISM_INVALID.into()),
        }
    }

    fn signature_length(&self, key: &Key) -> Result<usize, Failure> {
        match key {
            Key::EdwardsPrivate(_) => Ok(edwards::SIGNATURE),
            Key::Ed448Private(_) => Ok(ed448::SIGNATURE),
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
        match key {
            Key::EdwardsPrivate(key) => Ok(output.write(&key.sign(scheme(parameters)?, message)?)?),
            Key::Ed448Private(key) => {
                let (prehash, context) = halves(scheme(parameters)?);
                Ok(output.write(&key.sign(prehash, context, message)?)?)
            }
            _ => Err(wrong_key()),
        }
    }

    fn verify_message(
        &self,
        key: &Key,
        parameters: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Failure> {
        if let Key::Ed448Public(public) = key {
            if signature.len() != ed448::SIGNATURE {
                return Err(CKR_SIGNATURE_LEN_RANGE.into());
            }
            let (prehash, context) = halves(scheme(parameters)?);
            return Ok(ed448::verify(public, prehash, context, message, signature)?);
        }
        let Key::EdwardsPublic(public) = key else {
            return Err(wrong_key());
        };
        if signature.len() != edwards::SIGNATURE {
            return Err(CKR_SIGNATURE_LEN_RANGE.into());
        }
        Ok(edwards::verify(
            public,
            scheme(parameters)?,
            message,
            signature,
        )?)
    }
}
