//! Attributes of an object: a small sorted map from CK_ATTRIBUTE_TYPE to bytes.
//!
//! CK_ULONG values are eight little-endian bytes and CK_BBOOL one, as on the wire. Key material
//! never stands here: private and secret values live in the object's key.

use casemate_transport::fields::{Malformed, Reader};
use casemate_transport::message::encode_attribute;
use cryptoki_sys::{CK_ATTRIBUTE_TYPE, CK_ULONG, CKR_ATTRIBUTE_VALUE_INVALID};

use crate::failure::Failure;

/// Most attributes of one template or object.
pub const ATTRIBUTES_MAX: usize = 128;

/// A set of attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    entries: Vec<(CK_ATTRIBUTE_TYPE, Box<[u8]>)>,
}

impl Attributes {
    /// No attributes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes a template or a stored set: a type that comes twice is an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut set = Self::new();
        while !reader.is_empty() {
            let offset = reader.offset();
            let kind = reader.u64()?;
            let value = reader.counted()?;
            if set.contains(kind) || set.entries.len() >= ATTRIBUTES_MAX {
                return Err(Malformed { offset });
            }
            set.set(kind, value);
        }
        Ok(set)
    }

    /// The wire form, sorted by type.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (kind, value) in &self.entries {
            encode_attribute(&mut out, *kind, value);
        }
        out
    }

    fn position(&self, kind: CK_ATTRIBUTE_TYPE) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&kind, |(k, _)| *k)
    }

    /// Whether the attribute is there.
    pub fn contains(&self, kind: CK_ATTRIBUTE_TYPE) -> bool {
        self.position(kind).is_ok()
    }

    /// Its value.
    pub fn get(&self, kind: CK_ATTRIBUTE_TYPE) -> Option<&[u8]> {
        self.position(kind)
            .ok()
            .and_then(|i| self.entries.get(i))
            .map(|(_, v)| v.as_ref())
    }

    /// Sets or replaces it.
    pub fn set(&mut self, kind: CK_ATTRIBUTE_TYPE, value: &[u8]) {
        match self.position(kind) {
            Ok(i) => {
                if let Some(entry) = self.entries.get_mut(i) {
                    entry.1 = value.into();
                }
            }
            Err(i) => self.entries.insert(i, (kind, value.into())),
        }
    }

    /// Sets it unless it is there.
    pub fn set_default(&mut self, kind: CK_ATTRIBUTE_TYPE, value: &[u8]) {
        if !self.contains(kind) {
            self.set(kind, value);
        }
    }

    /// Takes it out.
    pub fn remove(&mut self, kind: CK_ATTRIBUTE_TYPE) -> Option<Box<[u8]>> {
        self.position(kind).ok().map(|i| self.entries.remove(i).1)
    }

    /// A CK_BBOOL; absent is None, another length or value than 0 and 1 an error.
    pub fn boolean(&self, kind: CK_ATTRIBUTE_TYPE) -> Result<Option<bool>, Failure> {
        match self.get(kind) {
            None => Ok(None),
            Some([0]) => Ok(Some(false)),
            Some([1]) => Ok(Some(true)),
            Some(_) => Err(CKR_ATTRIBUTE_VALUE_INVALID.into()),
        }
    }

    /// Whether a stored CK_BBOOL is true.
    pub fn is_true(&self, kind: CK_ATTRIBUTE_TYPE) -> bool {
        self.get(kind) == Some(&[1])
    }

    /// A CK_ULONG; absent is None, another length an error.
    pub fn number(&self, kind: CK_ATTRIBUTE_TYPE) -> Result<Option<CK_ULONG>, Failure> {
        match self.get(kind) {
            None => Ok(None),
            Some(bytes) => match <[u8; 8]>::try_from(bytes) {
                Ok(array) => Ok(Some(u64::from_le_bytes(array))),
                Err(_) => Err(CKR_ATTRIBUTE_VALUE_INVALID.into()),
            },
        }
    }

    /// Sets a CK_BBOOL.
    pub fn set_boolean(&mut self, kind: CK_ATTRIBUTE_TYPE, value: bool) {
        self.set(kind, &[u8::from(value)]);
    }

    /// Sets a CK_ULONG.
    pub fn set_number(&mut self, kind: CK_ATTRIBUTE_TYPE, value: CK_ULONG) {
        self.set(kind, &value.to_le_bytes());
    }

    /// All of them, by type.
    pub fn iter(&self) -> impl Iterator<Item = (CK_ATTRIBUTE_TYPE, &[u8])> {
        self.entries
            .iter()
            .map(|(kind, value)| (*kind, value.as_ref()))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
