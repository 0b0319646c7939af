//! Making keys: generate, wrap, unwrap, derive, encapsulate (PKCS#11 3.2, sections 5.18 and 5.19).
//!
//! What keeps sensitive keys sensitive, beyond the standard's attributes:
//! - a sensitive key is wrapped only by a secret key that was always sensitive itself, and never by
//!   a key that may also decrypt (itself, or as the private half of a public key that is here);
//! - what a sensitive key unwraps is sensitive;
//! - a key derived or encapsulated from a sensitive key is sensitive (`derivation` has more).
//!
//! The policy `legacy-test` lifts the first half of the first rule and the second rule, which outside
//! suites of older semantics trip over.

use casemate_transport::message::{Operation, Usage};
use cryptoki_sys::*;

use super::derivation::DERIVED_MIN;
use super::objects::decode;
use super::{Call, Outcome, Result};
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::{self, Secret};
use crate::mechanisms::Made;
use crate::object::Object;
use crate::template::{self, Origin};

impl Call<'_> {
    pub(super) fn manage_key(&mut self, operation: Operation) -> Result<Outcome> {
        self.require_session()?;
        match operation {
            Operation::GenerateKey => self.generate_key(),
            Operation::GenerateKeyPair => self.generate_key_pair(),
            Operation::WrapKey => self.wrap_key(&[]),
            Operation::WrapKeyAuthenticated => self.wrap_key(self.first),
            Operation::UnwrapKey => self.unwrap_key(&[]),
            Operation::UnwrapKeyAuthenticated => self.unwrap_key(self.second),
            Operation::DeriveKey => self.derive_key(),
            Operation::ImportKey => self.import_key(),
            Operation::EncapsulateKey => self.encapsulate_key(),
            _ => self.decapsulate_key(),
        }
    }

    fn generate_key(&mut self) -> Result<Outcome> {
        let mechanism = self.mechanism()?;
        let template = self.template()?;
        template::check(CKO_SECRET_KEY, &template)?;
        self.require_creation_of(&template)?;
        let made = mechanism.generate(self, self.parameters, &template)?;
        let object = self.finish(CKO_SECRET_KEY, Origin::Generated, template, made)?;
        self.add_objects("generate a key", vec![object], Vec::new())
    }

    fn generate_key_pair(&mut self) -> Result<Outcome> {
        let mechanism = self.mechanism()?;
        let public = decode(self.first)?;
        let private = self.template()?;
        template::check(CKO_PUBLIC_KEY, &public)?;
        template::check(CKO_PRIVATE_KEY, &private)?;
        self.require_creation_of(&public)?;
        self.require_creation_of(&private)?;
        let (made_public, made_private) =
            mechanism.generate_pair(self, self.parameters, &public, &private)?;
        let public = self.finish(CKO_PUBLIC_KEY, Origin::Generated, public, made_public)?;
        let private = self.finish(CKO_PRIVATE_KEY, Origin::Generated, private, made_private)?;
        self.add_objects("generate a key pair", vec![public, private], Vec::new())
    }

    /// Completes the template of a made key with what follows from its value.
    pub(super) fn finish(
        &self,
        class: CK_OBJECT_CLASS,
        origin: Origin,
        mut template: Attributes,
        made: Made,
    ) -> Result<(Attributes, Option<Key>)> {
        for (kind, value) in made.attributes.iter() {
            // What the template says of the value must be what was made.
            if template.get(kind).is_some_and(|given| given != value) {
                return Err(CKR_TEMPLATE_INCONSISTENT.into());
            }
            template.set(kind, value);
        }
        if origin == Origin::Generated {
            template.set_number(CKA_KEY_GEN_MECHANISM, self.header.mechanism);
        }
        template::complete(class, origin, &mut template);
        Ok((template, Some(made.key)))
    }

    /// A private key from PKCS #8 or PEM, and its public half, which gets the same label and id.
    fn import_key(&mut self) -> Result<Outcome> {
        let template = decode(self.first)?;
        template::check(CKO_PRIVATE_KEY, &template)?;
        self.require_creation_of(&template)?;
        let data = self.data();
        let private = Key::from_encoded(data.expose()).map_err(|error| match error {
            lc::Error::Unsupported(_) | lc::Error::Size => Failure::new(CKR_KEY_SIZE_RANGE),
            _ => Failure::new(CKR_ATTRIBUTE_VALUE_INVALID),
        })?;
        let public = private.public_half()?;
        let mut public_template = Attributes::new();
        for kind in [CKA_TOKEN, CKA_LABEL, CKA_ID, CKA_SUBJECT] {
            if let Some(value) = template.get(kind) {
                public_template.set(kind, value);
            }
        }
        let private = self.finish(CKO_PRIVATE_KEY, Origin::Created, template, private.made()?)?;
        let public = self.finish(
            CKO_PUBLIC_KEY,
            Origin::Created,
            public_template,
            public.made()?,
        )?;
        self.add_objects("import a key", vec![private, public], Vec::new())
    }

    // --- wrapping ------------------------------------------------------------------------------

    fn wrap_key(&mut self, associated: &[u8]) -> Result<Outcome> {
        let mechanism = self.mechanism()?;
        let (wrapping, wrapping_key) =
            match self.key_for(self.header.object, Usage::Wrap, self.header.mechanism) {
                Err(failure) if failure.code == CKR_KEY_HANDLE_INVALID => {
                    return Err(CKR_WRAPPING_KEY_HANDLE_INVALID.into());
                }
                other => other?,
            };
        let (target, target_key) = self.key(self.header.aux)?;
        self.require_wrappable(&wrapping, &wrapping_key, &target)?;
        mechanism
            .check(Usage::Wrap, Some(&wrapping_key), self.parameters)
            .map_err(|failure| {
                if failure.code == CKR_KEY_TYPE_INCONSISTENT {
                    CKR_WRAPPING_KEY_TYPE_INCONSISTENT.into()
                } else {
                    failure
                }
            })?;
        self.require_context(&wrapping)?;
        let material = target_key.wrappable()?;
        let wrapped =
            mechanism.wrap(self, &wrapping_key, self.parameters, &material, associated)?;
        if self.length_only() {
            return Ok(Outcome::Length(wrapped.len()));
        }
        Ok(Outcome::Bytes(wrapped, 0, 0))
    }

    fn require_wrappable(
        &self,
        wrapping: &Object,
        wrapping_key: &Key,
        target: &Object,
    ) -> Result<()> {
        if target.class == CKO_PUBLIC_KEY {
            return Err(CKR_KEY_NOT_WRAPPABLE.into());
        }
        if !target.attributes.is_true(CKA_EXTRACTABLE) {
            return Err(CKR_KEY_UNEXTRACTABLE.into());
        }
        let refused = Failure::new(CKR_KEY_NOT_WRAPPABLE);
        if target.attributes.is_true(CKA_WRAP_WITH_TRUSTED)
            && !wrapping.attributes.is_true(CKA_TRUSTED)
        {
            return Err(refused);
        }
        if let Some(required) = wrapping.attributes.get(CKA_WRAP_TEMPLATE)
            && !decode(required)?
                .iter()
                .all(|(kind, value)| target.attributes.get(kind) == Some(value))
        {
            return Err(refused);
        }
        if !target.attributes.is_true(CKA_SENSITIVE) {
            return Ok(());
        }
        let may_decrypt = match wrapping.class {
            CKO_SECRET_KEY => wrapping.permits(Usage::Decrypt),
            _ => self.partition.objects().iter().any(|object| {
                // The attributes say first whether it can be: stored keys stay unparsed.
                let modulus =
                    |object: &Object| object.attributes.get(CKA_MODULUS).map(<[u8]>::to_vec);
                object.permits(Usage::Decrypt)
                    && object.key_type == wrapping.key_type
                    && modulus(object)
                        .is_none_or(|own| modulus(wrapping).is_none_or(|it| it == own))
                    && object.key().map_or(true, |key| {
                        key.is_some_and(|key| key.is_pair_of(wrapping_key))
                    })
            }),
        };
        let readable =
            wrapping.class == CKO_SECRET_KEY && !wrapping.attributes.is_true(CKA_ALWAYS_SENSITIVE);
        if may_decrypt || (readable && !self.policy.legacy_test) {
            return Err(refused);
        }
        Ok(())
    }

    fn unwrap_key(&mut self, associated: &[u8]) -> Result<Outcome> {
        let mechanism = self.mechanism()?;
        let (unwrapping, key) =
            match self.key_for(self.header.object, Usage::Unwrap, self.header.mechanism) {
                Err(failure) if failure.code == CKR_KEY_HANDLE_INVALID => {
                    return Err(CKR_UNWRAPPING_KEY_HANDLE_INVALID.into());
                }
                other => other?,
            };
        let mut template = decode(self.first)?;
        impose(
            &mut template,
            unwrapping.attributes.get(CKA_UNWRAP_TEMPLATE),
        )?;
        let class = template
            .number(CKA_CLASS)?
            .ok_or(Failure::new(CKR_TEMPLATE_INCOMPLETE))?;
        if !matches!(class, CKO_SECRET_KEY | CKO_PRIVATE_KEY) {
            return Err(CKR_TEMPLATE_INCONSISTENT.into());
        }
        template::check(class, &template)?;
        self.require_creation_of(&template)?;
        let declassifies = template.boolean(CKA_SENSITIVE)? == Some(false);
        if declassifies && unwrapping.attributes.is_true(CKA_SENSITIVE) && !self.policy.legacy_test
        {
            return Err(CKR_TEMPLATE_INCONSISTENT.into());
        }
        let kind = template
            .number(CKA_KEY_TYPE)?
            .ok_or(Failure::new(CKR_TEMPLATE_INCOMPLETE))?;
        mechanism
            .check(Usage::Unwrap, Some(&key), self.parameters)
            .map_err(|failure| {
                if failure.code == CKR_KEY_TYPE_INCONSISTENT {
                    CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT.into()
                } else {
                    failure
                }
            })?;
        self.require_context(&unwrapping)?;
        let wrapped = self.data();
        let material =
            mechanism.unwrap(self, &key, self.parameters, wrapped.expose(), associated)?;
        let made = Key::from_wrapped(class, kind, &template, material)?;
        let object = self.finish(class, Origin::Unwrapped, template, made)?;
        self.add_objects("unwrap a key", vec![object], Vec::new())
    }

    // --- encapsulation -------------------------------------------------------------------------

    fn encapsulate_key(&mut self) -> Result<Outcome> {
        let mechanism = self.mechanism()?;
        let (public, key) = self.key_for(
            self.header.object,
            Usage::Encapsulate,
            self.header.mechanism,
        )?;
        let mut template = self.template()?;
        impose(
            &mut template,
            public.attributes.get(CKA_ENCAPSULATE_TEMPLATE),
        )?;
        mechanism.check(Usage::Encapsulate, Some(&key), self.parameters)?;
        let (length, _) =
            mechanism.output_length(Usage::Encapsulate, Some(&key), self.parameters, 0)?;
        if self.length_only() {
            return Ok(Outcome::Length(length));
        }
        self.require_capacity(length)?;
        let (ciphertext, secret) = mechanism.encapsulate(self, &key, self.parameters)?;
        let object = self.shared_secret(template, secret)?;
        self.add_objects("encapsulate a key", vec![object], ciphertext)
    }

    fn decapsulate_key(&mut self) -> Result<Outcome> {
        let mechanism = self.mechanism()?;
        let (private, key) = self.key_for(
            self.header.object,
            Usage::Decapsulate,
            self.header.mechanism,
        )?;
        let mut template = decode(self.first)?;
        impose(
            &mut template,
            private.attributes.get(CKA_DECAPSULATE_TEMPLATE),
        )?;
        mechanism.check(Usage::Decapsulate, Some(&key), self.parameters)?;
        self.require_context(&private)?;
        let secret = mechanism.decapsulate(&key, self.parameters, self.data().expose())?;
        let object = self.shared_secret(template, secret)?;
        self.add_objects("decapsulate a key", vec![object], Vec::new())
    }

    fn shared_secret(
        &self,
        mut template: Attributes,
        secret: Secret,
    ) -> Result<(Attributes, Option<Key>)> {
        template.set_default(CKA_CLASS, &CKO_SECRET_KEY.to_le_bytes());
        template.set_default(CKA_KEY_TYPE, &CKK_GENERIC_SECRET.to_le_bytes());
        template::check(CKO_SECRET_KEY, &template)?;
        self.require_creation_of(&template)?;
        let kind = template.number(CKA_KEY_TYPE)?.unwrap_or(CKK_GENERIC_SECRET);
        let made = Key::from_shared(kind, &template, &secret)?;
        if let Key::Secret(key) = &made.key
            && key.value().len() < DERIVED_MIN
            && !self.policy.legacy_test
        {
            return Err(CKR_KEY_SIZE_RANGE.into());
        }
        self.finish(CKO_SECRET_KEY, Origin::Derived, template, made)
    }

    pub(super) fn require_creation_of(&self, template: &Attributes) -> Result<()> {
        let session = self.session()?;
        self.require_creation(&session, template)
    }
}

/// A wrapping key's template for what it unwraps or derives: what it says must hold, and is set.
pub(super) fn impose(template: &mut Attributes, required: Option<&[u8]>) -> Result<()> {
    let Some(required) = required else {
        return Ok(());
    };
    for (kind, value) in decode(required)?.iter() {
        if template.get(kind).is_some_and(|given| given != value) {
            return Err(CKR_TEMPLATE_INCONSISTENT.into());
        }
        template.set(kind, value);
    }
    Ok(())
}
