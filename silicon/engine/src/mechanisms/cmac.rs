//! AES-CMAC, whole and truncated (PKCS#11 3.2, section 6.15).

use std::sync::Arc;

use casemate_transport::message::Usage;
use cryptoki_sys::{
    CK_MECHANISM_TYPE, CKF_SIGN, CKF_VERIFY, CKK_AES, CKM_AES_CMAC, CKM_AES_CMAC_GENERAL,
    CKR_MECHANISM_INVALID,
};

use super::{Environment, Info, Mechanism, Stream, secret};
use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::aes::{BLOCK, Block};
use crate::lc::{Input, Output, cmac};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[&Cmac { general: false }, &Cmac { general: true }];

struct Cmac {
    /// Whether the parameter says how many bytes of the MAC are wanted.
    general: bool,
}

impl Cmac {
    fn length(&self, parameters: &[u8]) -> Result<usize, Failure> {
        if self.general {
            secret::mac_length(parameters, BLOCK)
        } else {
            secret::none(parameters)?;
            Ok(BLOCK)
        }
    }

    fn run(
        &self,
        key: &Key,
        parameters: &[u8],
        input: Input<'_>,
    ) -> Result<(Block, usize), Failure> {
        let length = self.length(parameters)?;
        let key = secret::of_type(Some(key), &[CKK_AES])?;
        Ok((key.cmac()?.mac(input)?, length))
    }
}

impl Mechanism for Cmac {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        if self.general {
            CKM_AES_CMAC_GENERAL
        } else {
            CKM_AES_CMAC
        }
    }

    fn info(&self) -> Info {
        Info {
            min: 16,
            max: 32,
            flags: CKF_SIGN | CKF_VERIFY,
        }
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        if !matches!(usage, Usage::Sign | Usage::Verify) {
            return Err(CKR_MECHANISM_INVALID.into());
        }
        self.length(parameters)?;
        secret::of_type(key, &[CKK_AES]).map(|_| ())
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
        let key = key.map(Arc::as_ref);
        self.check(usage, key, parameters)?;
        Ok(Box::new(Running {
            state: secret::of_type(key, &[CKK_AES])?.cmac()?.begin()?,
            length: self.length(parameters)?,
        }))
    }
}

struct Running {
    state: cmac::Cmac,
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
