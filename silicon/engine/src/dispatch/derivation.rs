//! Keys from keys: C_DeriveKey (PKCS#11 3.2, section 5.18.5).
//!
//! What keeps a base key from being read off what is derived from it:
//! - from a sensitive key only sensitive keys come, from one that never leaves only those that never
//!   leave; where the result shows its bases (concatenation, XOR), no policy lifts this, and it goes
//!   for every base;
//! - a sensitive key derives no key that is short enough to be found by trying: a series of ever
//!   longer ones would give away the longest byte by byte;
//! - a sensitive key gives data or IVs in clear only if CKA_ALLOWED_MECHANISMS of the key names the
//!   mechanism: the same bytes may be a key that somebody else derives.

use casemate_transport::message::Usage;
use cryptoki_sys::*;

use super::keys::impose;
use super::{Call, Outcome, Result};
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::keys::Key;
use crate::mechanisms::{Lineage, Made};
use crate::object::Object;
use crate::template::{self, Origin};

/// Fewest bytes of a key that a sensitive one derives: 112 bits.
pub(super) const DERIVED_MIN: usize = 14;

/// What the bases of a derivation impose on its keys.
struct Bases {
    /// One of them is sensitive: so is what is derived.
    sensitive: bool,
    /// One of them never leaves: nor does what is derived.
    stays: bool,
    always_sensitive: bool,
    never_extractable: bool,
    /// Too short a key would tell about them.
    least: usize,
}

impl Call<'_> {
    pub(super) fn derive_key(&mut self) -> Result<Outcome> {
        let mechanism = self.mechanism()?;
        let (base, key) = self.key_for(self.header.object, Usage::Derive, self.header.mechanism)?;
        mechanism.check(Usage::Derive, Some(&key), self.parameters)?;
        let lineage = mechanism.lineage(self.parameters)?;
        let bases = self.bases(&base, &lineage)?;
        let mut template = self.template()?;
        impose(&mut template, base.attributes.get(CKA_DERIVE_TEMPLATE))?;
        let class = if lineage == Lineage::Data {
            CKO_DATA
        } else {
            CKO_SECRET_KEY
        };
        self.check_derived(class, &bases, &mut template)?;
        self.require_context(&base)?;
        let derived = mechanism.derive(self, &key, self.parameters, &template)?;
        let mut objects = Vec::new();
        let first = derived.key.is_some();
        if let Some(made) = derived.key {
            objects.push(self.finish_derived(class, &bases, template, made)?);
        }
        let mut places = Vec::new();
        for further in derived.further {
            let Some((mut template, made)) = further else {
                places.push(None);
                continue;
            };
            self.check_derived(CKO_SECRET_KEY, &bases, &mut template)?;
            places.push(Some(objects.len()));
            objects.push(self.finish_derived(CKO_SECRET_KEY, &bases, template, made)?);
        }
        let rest = derived.output;
        self.require_capacity(places.len() * 8 + rest.len())?;
        self.add_objects_with("derive a key", objects, move |handles| {
            let handle = |index: usize| handles.get(index).copied().unwrap_or(0);
            let mut output: Vec<u8> = places
                .iter()
                .flat_map(|place| place.map_or(0, handle).to_le_bytes())
                .collect();
            output.extend_from_slice(&rest);
            (output, if first { handle(0) } else { 0 }, 0)
        })
    }

    fn bases(&self, base: &Object, lineage: &Lineage) -> Result<Bases> {
        let attributes = &base.attributes;
        let sensitive = attributes.is_true(CKA_SENSITIVE);
        let lifted = self.policy.legacy_test;
        if matches!(lineage, Lineage::Data | Lineage::Shown)
            && sensitive
            && !lifted
            && attributes
                .get(CKA_ALLOWED_MECHANISMS)
                .is_none_or(<[u8]>::is_empty)
        {
            return Err(CKR_KEY_FUNCTION_NOT_PERMITTED.into());
        }
        let mut bases = Bases {
            sensitive: sensitive && !lifted,
            stays: base.class == CKO_SECRET_KEY && !attributes.is_true(CKA_EXTRACTABLE) && !lifted,
            always_sensitive: attributes.is_true(CKA_ALWAYS_SENSITIVE),
            never_extractable: attributes.is_true(CKA_NEVER_EXTRACTABLE),
            least: if sensitive && !lifted { DERIVED_MIN } else { 0 },
        };
        if let Lineage::Transparent(further) = lineage {
            bases.sensitive = sensitive;
            bases.stays = !attributes.is_true(CKA_EXTRACTABLE);
            for handle in further {
                let (object, _) = self.key(*handle)?;
                let attributes = &object.attributes;
                bases.sensitive |= attributes.is_true(CKA_SENSITIVE);
                bases.stays |= !attributes.is_true(CKA_EXTRACTABLE);
                bases.always_sensitive &= attributes.is_true(CKA_ALWAYS_SENSITIVE);
                bases.never_extractable &= attributes.is_true(CKA_NEVER_EXTRACTABLE);
            }
        }
        Ok(bases)
    }

    fn check_derived(
        &self,
        class: CK_OBJECT_CLASS,
        bases: &Bases,
        template: &mut Attributes,
    ) -> Result<()> {
        template.set_default(CKA_CLASS, &class.to_le_bytes());
        if class == CKO_DATA {
            // The length of the data, which an object of data does not have as an attribute.
            let mut without = template.clone();
            without.remove(CKA_VALUE_LEN);
            template::check(class, &without)?;
            return self.require_creation_of(&without);
        }
        template::check(class, template)?;
        self.require_creation_of(template)?;
        for (holds, kind, value) in [
            (bases.sensitive, CKA_SENSITIVE, true),
            (bases.stays, CKA_EXTRACTABLE, false),
        ] {
            if holds {
                if template.boolean(kind)? == Some(!value) {
                    return Err(CKR_TEMPLATE_INCONSISTENT.into());
                }
                template.set_boolean(kind, value);
            }
        }
        Ok(())
    }

    fn finish_derived(
        &self,
        class: CK_OBJECT_CLASS,
        bases: &Bases,
        mut template: Attributes,
        made: Made,
    ) -> Result<(Attributes, Option<Key>)> {
        if class == CKO_DATA {
            template.remove(CKA_VALUE_LEN);
            template::complete(class, Origin::Derived, &mut template);
            if let Key::Secret(key) = &made.key {
                template.set(CKA_VALUE, key.value().expose());
            }
            return Ok((template, None));
        }
        if let Key::Secret(key) = &made.key
            && key.value().len() < bases.least
        {
            return Err(Failure::new(CKR_KEY_SIZE_RANGE));
        }
        let (mut attributes, key) = self.finish(class, Origin::Derived, template, made)?;
        let always = bases.always_sensitive && attributes.is_true(CKA_SENSITIVE);
        let never = bases.never_extractable && !attributes.is_true(CKA_EXTRACTABLE);
        attributes.set_boolean(CKA_ALWAYS_SENSITIVE, always);
        attributes.set_boolean(CKA_NEVER_EXTRACTABLE, never);
        Ok((attributes, key))
    }
}
