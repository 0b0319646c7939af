//! An object: its attributes, and for a key its material.
//!
//! Objects do not change: a new set of attributes is a new object under the same handle. So an
//! operation that has begun goes on with what it began with, and readers need no lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use cryptoki_sys::{
    CK_KEY_TYPE, CK_OBJECT_CLASS, CKA_ALWAYS_AUTHENTICATE, CKA_CLASS, CKA_DECAPSULATE, CKA_DECRYPT,
    CKA_DERIVE, CKA_ENCAPSULATE, CKA_ENCRYPT, CKA_KEY_TYPE, CKA_PRIVATE, CKA_SIGN,
    CKA_SIGN_RECOVER, CKA_TOKEN, CKA_UNWRAP, CKA_VERIFY, CKA_VERIFY_RECOVER, CKA_WRAP,
    CKO_PRIVATE_KEY, CKO_PUBLIC_KEY, CKO_SECRET_KEY, CKR_DEVICE_MEMORY,
};

use crate::attributes::Attributes;
use crate::cache::{CachedKey, KeyCache};
use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::Secret;
use casemate_transport::fields::{Reader, Writer};
use casemate_transport::message::Usage;

/// Bit 62 of a handle: a session object, which ends with its session.
pub const SESSION_OBJECT: u64 = 1 << 62;

/// Who an object ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The connection: an application.
    pub connection: u64,
    /// The session.
    pub session: u64,
}

/// The key of an object.
#[derive(Clone, Debug)]
enum Material {
    /// Certificates and data have none.
    None,
    /// Parsed for as long as the object lives: session objects.
    Parsed(Arc<Key>),
    /// In the partition's cache: token objects.
    Stored(Arc<CachedKey>),
}

/// An object of a partition.
#[derive(Debug)]
pub struct Object {
    /// CK_OBJECT_HANDLE, the same after a restart for a token object.
    pub handle: u64,
    /// Its session, or None for a token object.
    pub owner: Option<Owner>,
    /// Everything but key material.
    pub attributes: Attributes,
    material: Material,
    /// Counts the changes of a token object.
    pub generation: u64,
    /// Class, read once.
    pub class: CK_OBJECT_CLASS,
    /// CKA_KEY_TYPE, for keys.
    pub key_type: CK_KEY_TYPE,
    usages: u32,
    private: bool,
    always_authenticate: bool,
    /// The tag of its stored record: part of the root.
    pub record_tag: [u8; 16],
    /// Whether somebody has destroyed it, while others still use it.
    pub destroyed: AtomicBool,
    /// Remaining uses where the firmware limits them; u64::MAX is no limit.
    pub uses_left: AtomicU64,
}

impl Object {
    /// An object with these attributes, which `template` has completed.
    pub fn new(
        handle: u64,
        owner: Option<Owner>,
        attributes: Attributes,
        key: Option<Arc<Key>>,
        generation: u64,
    ) -> Self {
        let material = key.map_or(Material::None, Material::Parsed);
        Self::with_material(handle, owner, attributes, material, generation)
    }

    /// The same object with other attributes: its next generation.
    pub fn changed(&self, attributes: Attributes) -> Self {
        let (owner, material) = (self.owner, self.material.clone());
        Self::with_material(
            self.handle,
            owner,
            attributes,
            material,
            self.generation + 1,
        )
    }

    fn with_material(
        handle: u64,
        owner: Option<Owner>,
        attributes: Attributes,
        material: Material,
        generation: u64,
    ) -> Self {
        let class = attributes
            .number(CKA_CLASS)
            .ok()
            .flatten()
            .unwrap_or(u64::MAX);
        let key_type = attributes
            .number(CKA_KEY_TYPE)
            .ok()
            .flatten()
            .unwrap_or(u64::MAX);
        let usages = Usage::ALL
            .iter()
            .filter(|usage| usage_attribute(**usage).is_some_and(|kind| attributes.is_true(kind)))
            .fold(0, |bits, usage| bits | (1 << *usage as u32));
        Self {
            private: attributes.is_true(CKA_PRIVATE),
            always_authenticate: attributes.is_true(CKA_ALWAYS_AUTHENTICATE),
            handle,
            owner,
            attributes,
            material,
            generation,
            class,
            key_type,
            usages,
            record_tag: [0; 16],
            destroyed: AtomicBool::new(false),
            uses_left: AtomicU64::new(u64::MAX),
        }
    }

    /// Whether it needs a user login.
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// Whether it outlives sessions.
    pub fn is_token(&self) -> bool {
        self.attributes.is_true(CKA_TOKEN)
    }

    /// Whether each use wants a login of its own.
    pub fn always_authenticate(&self) -> bool {
        self.always_authenticate
    }

    /// Whether the attributes permit this usage.
    pub fn permits(&self, usage: Usage) -> bool {
        self.usages & (1 << usage as u32) != 0
    }

    /// Whether it is a key of any class.
    pub fn is_key(&self) -> bool {
        matches!(
            self.class,
            CKO_PRIVATE_KEY | CKO_PUBLIC_KEY | CKO_SECRET_KEY
        )
    }
}

/// The attribute that permits a usage.
pub fn usage_attribute(usage: Usage) -> Option<u64> {
    Some(match usage {
        Usage::Digest => return None,
        Usage::Sign => CKA_SIGN,
        Usage::Verify => CKA_VERIFY,
        Usage::Encrypt => CKA_ENCRYPT,
        Usage::Decrypt => CKA_DECRYPT,
        Usage::SignRecover => CKA_SIGN_RECOVER,
        Usage::VerifyRecover => CKA_VERIFY_RECOVER,
        Usage::Wrap => CKA_WRAP,
        Usage::Unwrap => CKA_UNWRAP,
        Usage::Derive => CKA_DERIVE,
        Usage::Encapsulate => CKA_ENCAPSULATE,
        Usage::Decapsulate => CKA_DECAPSULATE,
    })
}

impl Object {
    /// The key, for key objects; a stored one is parsed if nobody has used it lately.
    pub fn key(&self) -> Result<Option<Arc<Key>>, Failure> {
        match &self.material {
            Material::None => Ok(None),
            Material::Parsed(key) => Ok(Some(key.clone())),
            Material::Stored(cached) => cached
                .get(|stored| Key::from_stored(self.class, self.key_type, &self.attributes, stored))
                .map(Some),
        }
    }

    /// The key is in use, though nobody asked for it here.
    pub fn mark_used(&self) {
        if let Material::Stored(cached) = &self.material {
            cached.mark_used();
        }
    }

    /// What the vault stores of the key; nothing for objects without one.
    pub fn stored(&self) -> Result<Secret, Failure> {
        match &self.material {
            Material::None => Ok(Secret::zeroed(0)),
            Material::Parsed(key) => key.stored(),
            Material::Stored(cached) => Ok(cached.stored()?),
        }
    }

    /// Hands the key over to the cache.
    pub fn move_key_to(&mut self, cache: &Arc<KeyCache>) -> Result<(), Failure> {
        if let Material::Parsed(key) = &self.material {
            let cached = cache.keep(key.stored()?.expose())?;
            cached.set(key.clone());
            self.material = Material::Stored(cached);
        }
        Ok(())
    }

    /// The record's plaintext: a u32 length, the attributes, then the stored key.
    pub fn to_record(&self) -> Result<Secret, Failure> {
        let attributes = self.attributes.encode();
        let stored = self.stored()?;
        let mut plain = Secret::zeroed(4 + attributes.len() + stored.len());
        let mut writer = Writer::new(plain.expose_mut());
        writer.u32(u32::try_from(attributes.len()).map_err(|_| Failure::new(CKR_DEVICE_MEMORY))?);
        writer.bytes(&attributes);
        writer.bytes(stored.expose());
        Ok(plain)
    }

    /// The token object in a record; its key goes to the cache unparsed.
    pub fn from_record(
        handle: u64,
        generation: u64,
        plain: &[u8],
        cache: &Arc<KeyCache>,
    ) -> Result<Self, Failure> {
        let mut reader = Reader::new(plain);
        let attributes = Attributes::decode(reader.counted()?)?;
        let stored = reader.rest();
        let mut object = Self::new(handle, None, attributes, None, generation);
        if object.is_key() {
            object.material = Material::Stored(cache.keep(stored)?);
        }
        Ok(object)
    }
}
