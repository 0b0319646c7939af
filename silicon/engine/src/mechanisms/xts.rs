//! AES-256-XTS and its keys (PKCS#11 3.2, section 6.14). AES-128-XTS (keys of 32 bytes) is refused.

use std::sync::Arc;

use casemate_transport::message::Usage;
use cryptoki_sys::{
    CK_MECHANISM_TYPE, CKF_DECRYPT, CKF_ENCRYPT, CKK_AES_XTS, CKM_AES_XTS, CKM_AES_XTS_KEY_GEN,
    CKR_MECHANISM_INVALID,
};

use super::secret::{self, Generation, cipher_failure};
use super::{Environment, Info, Mechanism, Stream};
use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::aes::Direction;
use crate::lc::xts::{KEY, Xts, XtsKey};
use crate::lc::{Input, Output};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[
    &Generation {
        kind: CKM_AES_XTS_KEY_GEN,
        makes: CKK_AES_XTS,
        usual: Some(KEY),
        sizes: (KEY as u32, KEY as u32),
    },
    &AesXts,
];

/// One data unit per operation; the parameter is its tweak.
struct AesXts;

fn run(
    direction: Direction,
    key: &Key,
    parameters: &[u8],
    input: Input<'_>,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let tweak = secret::block(parameters)?;
    secret::of_type(Some(key), &[CKK_AES_XTS])?
        .xts()?
        .unit(direction, &tweak, input, output)
        .map_err(cipher_failure(direction))
}

impl Mechanism for AesXts {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        CKM_AES_XTS
    }

    fn info(&self) -> Info {
        Info {
            min: KEY as u32,
            max: KEY as u32,
            flags: CKF_ENCRYPT | CKF_DECRYPT,
        }
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        if !matches!(usage, Usage::Encrypt | Usage::Decrypt) {
            return Err(CKR_MECHANISM_INVALID.into());
        }
        secret::block(parameters)?;
        secret::of_type(key, &[CKK_AES_XTS]).map(|_| ())
    }

    fn output_length(
        &self,
        _: Usage,
        _: Option<&Key>,
        _: &[u8],
        input: usize,
    ) -> Result<(usize, bool), Failure> {
        Ok((input, false))
    }

    fn encrypt(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        run(Direction::Encrypt, key, parameters, input, output)
    }

    fn decrypt(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        run(Direction::Decrypt, key, parameters, input, output)
    }

    fn begin(
        &self,
        usage: Usage,
        key: Option<&Arc<Key>>,
        parameters: &[u8],
    ) -> Result<Box<dyn Stream>, Failure> {
        let key = key.map(Arc::as_ref);
        self.check(usage, key, parameters)?;
        let direction = secret::direction(usage)?;
        let tweak = secret::block(parameters)?;
        let key = secret::of_type(key, &[CKK_AES_XTS])?.xts()?.clone();
        Ok(Box::new(Running {
            direction,
            unit: Xts::new(key, direction, &tweak),
        }))
    }
}

struct Running {
    direction: Direction,
    unit: Xts<Arc<XtsKey>>,
}

impl Stream for Running {
    fn update(&mut self, input: Input<'_>, output: &mut Output<'_>) -> Result<(), Failure> {
        self.unit
            .update(input, output)
            .map_err(cipher_failure(self.direction))
    }

    fn finish(mut self: Box<Self>, output: &mut Output<'_>) -> Result<(), Failure> {
        self.unit
            .finish(output)
            .map_err(cipher_failure(self.direction))
    }

    fn output_length(&self, input: Option<usize>) -> usize {
        self.unit.output_length(input)
    }
}
