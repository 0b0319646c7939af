//! MAC mechanisms, whole and truncated: an algorithm is a `MacAlgorithm`, and `Mac` makes a mechanism
//! of it. The input is read where it stands, each byte once.

use std::sync::Arc;

use casemate_transport::message::Usage;
use cryptoki_sys::{CK_MECHANISM_TYPE, CKF_SIGN, CKF_VERIFY, CKR_MECHANISM_INVALID};

use super::{Environment, Info, Mechanism, Stream, secret};
use crate::failure::Failure;
use crate::keys::{Key, SecretKey};
use crate::lc::{self, Input, Output};

/// An algorithm with its hash or cipher.
pub trait MacAlgorithm: Sync {
    /// A MAC by value, not truncated.
    type Value: AsRef<[u8]>;
    /// A MAC under way.
    type State: MacState<Value = Self::Value> + 'static;

    /// Smallest and largest key in bytes.
    const SIZES: (u32, u32);

    /// Bytes of the MAC, not truncated.
    fn bytes(&self) -> usize;
    /// The key, if its type fits.
    fn key<'a>(&self, key: Option<&'a Key>) -> Result<&'a SecretKey, Failure>;
    /// The MAC of one input.
    fn mac(&self, key: &SecretKey, input: Input<'_>) -> Result<Self::Value, lc::Error>;
    /// Begins a MAC in parts.
    fn begin(&self, key: &SecretKey) -> Result<Self::State, lc::Error>;
}

/// A MAC under way.
pub trait MacState: Send {
    /// As in `MacAlgorithm`.
    type Value: AsRef<[u8]>;
    /// Takes more input.
    fn update(&mut self, input: Input<'_>) -> Result<(), lc::Error>;
    /// The MAC.
    fn finish(self) -> Result<Self::Value, lc::Error>;
}

/// The mechanism of an algorithm.
pub struct Mac<A> {
    /// Its type.
    pub kind: CK_MECHANISM_TYPE,
    /// What makes the MAC.
    pub algorithm: A,
    /// Whether the parameter says how many bytes of the MAC are wanted.
    pub general: bool,
}

impl<A: MacAlgorithm> Mac<A> {
    fn length(&self, parameters: &[u8]) -> Result<usize, Failure> {
        let whole = self.algorithm.bytes();
        if self.general {
            secret::mac_length(parameters, whole)
        } else {
            secret::none(parameters)?;
            Ok(whole)
        }
    }

    fn run(
        &self,
        key: &Key,
        parameters: &[u8],
        input: Input<'_>,
    ) -> Result<(A::Value, usize), Failure> {
        let length = self.length(parameters)?;
        let key = self.algorithm.key(Some(key))?;
        Ok((self.algorithm.mac(key, input)?, length))
    }
}

/// The bytes of a MAC that are wanted.
fn truncated(value: &impl AsRef<[u8]>, length: usize) -> &[u8] {
    let whole = value.as_ref();
    whole.get(..length).unwrap_or(whole)
}

impl<A: MacAlgorithm> Mechanism for Mac<A> {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        self.kind
    }

    fn info(&self) -> Info {
        Info {
            min: A::SIZES.0,
            max: A::SIZES.1,
            flags: CKF_SIGN | CKF_VERIFY,
        }
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        if !matches!(usage, Usage::Sign | Usage::Verify) {
            return Err(CKR_MECHANISM_INVALID.into());
        }
        self.length(parameters)?;
        self.algorithm.key(key).map(|_| ())
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
        Ok(output.write(truncated(&value, length))?)
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
        secret::compare(truncated(&value, length), signature)
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
            state: self.algorithm.begin(self.algorithm.key(key)?)?,
            length: self.length(parameters)?,
        }))
    }
}

struct Running<S> {
    state: S,
    length: usize,
}

impl<S: MacState> Stream for Running<S> {
    fn update(&mut self, input: Input<'_>, _: &mut Output<'_>) -> Result<(), Failure> {
        Ok(self.state.update(input)?)
    }

    fn finish(self: Box<Self>, output: &mut Output<'_>) -> Result<(), Failure> {
        Ok(output.write(truncated(&self.state.finish()?, self.length))?)
    }

    fn verify(self: Box<Self>, signature: &[u8]) -> Result<(), Failure> {
        secret::compare(truncated(&self.state.finish()?, self.length), signature)
    }

    fn output_length(&self, input: Option<usize>) -> usize {
        input.map_or(self.length, |_| 0)
    }
}
