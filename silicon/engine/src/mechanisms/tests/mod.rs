//! The symmetric families with known answers, in one piece and in parts.

mod ciphers;
mod derivation;
mod gcm;
mod macs;
mod wrapping;

use casemate_transport::parameters::Parameters;
use cryptoki_sys::*;

use super::*;
use crate::keys::SecretKey;
use crate::lc::{hex, random};

/// An environment without a partition.
#[derive(Default)]
pub(super) struct Here {
    key: Option<(u64, Arc<Key>)>,
}

impl Here {
    /// One that knows a further key by its handle.
    fn with(handle: u64, key: Arc<Key>) -> Self {
        Self {
            key: Some((handle, key)),
        }
    }
}

impl Environment for Here {
    fn random(&self, out: &mut [u8]) -> Result<(), Failure> {
        Ok(random::fill(out)?)
    }
    fn legacy(&self) -> bool {
        false
    }
    fn key(&self, handle: u64, _: Option<Usage>) -> Result<Arc<Key>, Failure> {
        let known = self.key.as_ref().filter(|(known, _)| *known == handle);
        known
            .map(|(_, key)| key.clone())
            .ok_or(CKR_KEY_HANDLE_INVALID.into())
    }
}

pub(super) fn key(kind: CK_KEY_TYPE, value: &[u8]) -> Arc<Key> {
    Arc::new(Key::Secret(SecretKey::new(kind, Secret::copy(value))))
}

pub(super) fn encoded(parameters: &Parameters<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    parameters.encode(&mut out);
    out
}

/// One whole operation into a buffer of this capacity.
fn whole(
    kind: u64,
    usage: Usage,
    key: Option<&Arc<Key>>,
    parameters: &[u8],
    data: &[u8],
    capacity: usize,
) -> Result<Vec<u8>, Failure> {
    let mechanism = find(kind, false)?;
    mechanism.check(usage, key.map(Arc::as_ref), parameters)?;
    let mut buffer = vec![0; capacity];
    let mut output = Output::new(&mut buffer);
    let (here, input) = (Here::default(), Input::new(data));
    match usage {
        Usage::Digest => mechanism.digest(parameters, input, &mut output)?,
        Usage::Sign => mechanism.sign(&here, key.unwrap(), parameters, input, &mut output)?,
        Usage::Encrypt => mechanism.encrypt(&here, key.unwrap(), parameters, input, &mut output)?,
        _ => mechanism.decrypt(&here, key.unwrap(), parameters, input, &mut output)?,
    }
    let written = output.written();
    buffer.truncate(written);
    Ok(buffer)
}

/// The same in parts of `part` bytes, each into no more room than `output_length` says.
fn parts(
    kind: u64,
    usage: Usage,
    key: Option<&Arc<Key>>,
    parameters: &[u8],
    data: &[u8],
    part: usize,
) -> Result<Vec<u8>, Failure> {
    let mechanism = find(kind, false)?;
    mechanism.check(usage, key.map(Arc::as_ref), parameters)?;
    let (mut stream, told) = mechanism.start(&Here::default(), usage, key, parameters)?;
    assert!(told.is_empty());
    let mut all = Vec::new();
    for piece in data.chunks(part) {
        let mut buffer = vec![0; stream.output_length(Some(piece.len()))];
        let mut output = Output::new(&mut buffer);
        stream.update(Input::new(piece), &mut output)?;
        let written = output.written();
        all.extend_from_slice(&buffer[..written]);
    }
    let mut buffer = vec![0; stream.output_length(None)];
    let mut output = Output::new(&mut buffer);
    stream.finish(&mut output)?;
    let written = output.written();
    all.extend_from_slice(&buffer[..written]);
    Ok(all)
}

fn code<T: std::fmt::Debug>(result: Result<T, Failure>) -> CK_RV {
    result.unwrap_err().code
}

#[test]
fn every_type_stands_once_and_is_found() {
    let mut kinds: Vec<_> = all().map(Mechanism::kind).collect();
    let count = kinds.len();
    for kind in &kinds {
        assert_eq!(find(*kind, true).unwrap().kind(), *kind);
    }
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), count);
    assert_eq!(
        code(find(CKM_DES3_CBC, true).map(Mechanism::kind)),
        CKR_MECHANISM_INVALID
    );
}
