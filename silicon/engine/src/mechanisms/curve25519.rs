//! EdDSA and the key pairs of Ed25519 and X25519 (PKCS#11 3.2, sections 6.3.14 to 6.3.16).
//!
//! Agreement with X25519 is CKM_ECDH1_DERIVE (`ecdh`). Messages are copied before they are signed:
//! see `lc::edwards`.

use std::sync::Arc;

use casemate_transport::layout::MESSAGE_MAX;
use casemate_transport::message::Usage;
use casemate_transport::parameters::Parameters;
use cryptoki_sys::*;

use super::buffered::{self, MessageSigner};
use super::{Environment, Info, Made, Mechanism, Stream, wrong_key};
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::keys::Key;
use crate::keys::curve25519::Form;
use crate::lc::edwards::{self, Scheme};
use crate::lc::{Input, Output, Secret, ed448, montgomery};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[
    &KeyPairGeneration {
        form: Form::Edwards,
    },
    &KeyPairGeneration {
        form: Form::Montgomery,
    },
    &Eddsa,
];

struct KeyPairGeneration {
    form: Form,
}

impl Mechanism for KeyPairGeneration {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        match self.form {
            Form::Edwards | Form::Ed448 => CKM_EC_EDWARDS_KEY_PAIR_GEN,
            Form::Montgomery => CKM_EC_MONTGOMERY_KEY_PAIR_GEN,
        }
    }

    fn info(&self) -> Info {
        Info {
            min: 255,
            max: 255,
            flags: CKF_GENERATE_KEY_PAIR | CKF_EC_CURVENAME | CKF_EC_OID,
        }
    }

    fn generate_pair(
        &self,
        environment: &dyn Environment,
        parameters: &[u8],
        public: &Attributes,
        _: &Attributes,
    ) -> Result<(Made, Made), Failure> {
        if !parameters.is_empty() {
            return Err(CKR_MECHANISM_PARAM_INVALID.into());
        }
        // Whether the partition takes such a key is asked where objects are added.
        let form = match self.form {
            Form::Edwards if Form::Ed448.require(public).is_ok() => Form::Ed448,
            form => form,
        };
        form.require(public)?;
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
        let name = public.get(CKA_EC_PARAMS).unwrap_or(&[]);
        let with_name = |mut made: Made| {
            made.attributes.set(CKA_EC_PARAMS, name);
            made
        };
        Ok((
            with_name(public_key.made()?),
            with_name(private_key.made()?),
        ))
    }
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

impl Mechanism for Eddsa {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        CKM_EDDSA
    }

    fn info(&self) -> Info {
        Info {
            min: 255,
            max: 255,
            flags: CKF_SIGN | CKF_VERIFY | CKF_EC_CURVENAME | CKF_EC_OID,
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

    fn output_length(
        &self,
        _: Usage,
        key: Option<&Key>,
        _: &[u8],
        _: usize,
    ) -> Result<(usize, bool), Failure> {
        Ok((self.signature_length(key.ok_or_else(wrong_key)?)?, true))
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
        buffered::begin(*self, usage, key, parameters, MESSAGE_MAX)
    }
}
