//! Templates: which attributes an object may have, what they default to, and what may change.
//!
//! PKCS#11 3.2, sections 4.1 to 4.14. The rules here are those of every class and origin; what a key
//! type adds (CKA_EC_POINT, CKA_MODULUS, ...) comes from the mechanism that makes the key.

use cryptoki_sys::*;

use crate::attributes::Attributes;
use crate::failure::Failure;

/// How an object comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// C_CreateObject: its value has been outside.
    Created,
    /// C_GenerateKey, C_GenerateKeyPair.
    Generated,
    /// C_UnwrapKey.
    Unwrapped,
    /// C_DeriveKey, C_EncapsulateKey, C_DecapsulateKey.
    Derived,
}

const STORAGE: &[u64] = &[
    CKA_CLASS,
    CKA_TOKEN,
    CKA_PRIVATE,
    CKA_MODIFIABLE,
    CKA_LABEL,
    CKA_COPYABLE,
    CKA_DESTROYABLE,
    CKA_UNIQUE_ID,
];
const DATA: &[u64] = &[CKA_APPLICATION, CKA_OBJECT_ID, CKA_VALUE];
const CERTIFICATE: &[u64] = &[
    CKA_CERTIFICATE_TYPE,
    CKA_TRUSTED,
    CKA_CERTIFICATE_CATEGORY,
    CKA_CHECK_VALUE,
    CKA_START_DATE,
    CKA_END_DATE,
    CKA_PUBLIC_KEY_INFO,
    CKA_SUBJECT,
    CKA_ID,
    CKA_ISSUER,
    CKA_SERIAL_NUMBER,
    CKA_VALUE,
    CKA_URL,
    CKA_HASH_OF_SUBJECT_PUBLIC_KEY,
    CKA_HASH_OF_ISSUER_PUBLIC_KEY,
    CKA_JAVA_MIDP_SECURITY_DOMAIN,
    CKA_NAME_HASH_ALGORITHM,
];
const KEY: &[u64] = &[
    CKA_KEY_TYPE,
    CKA_ID,
    CKA_START_DATE,
    CKA_END_DATE,
    CKA_DERIVE,
    CKA_LOCAL,
    CKA_KEY_GEN_MECHANISM,
    CKA_ALLOWED_MECHANISMS,
];
const PUBLIC: &[u64] = &[
    CKA_SUBJECT,
    CKA_ENCRYPT,
    CKA_VERIFY,
    CKA_VERIFY_RECOVER,
    CKA_WRAP,
    CKA_TRUSTED,
    CKA_WRAP_TEMPLATE,
    CKA_PUBLIC_KEY_INFO,
    CKA_ENCAPSULATE,
    CKA_ENCAPSULATE_TEMPLATE,
    CKA_MODULUS,
    CKA_MODULUS_BITS,
    CKA_PUBLIC_EXPONENT,
    CKA_EC_PARAMS,
    CKA_EC_POINT,
    CKA_PARAMETER_SET,
    CKA_VALUE,
];
const PRIVATE: &[u64] = &[
    CKA_SUBJECT,
    CKA_SENSITIVE,
    CKA_DECRYPT,
    CKA_SIGN,
    CKA_SIGN_RECOVER,
    CKA_UNWRAP,
    CKA_EXTRACTABLE,
    CKA_ALWAYS_SENSITIVE,
    CKA_NEVER_EXTRACTABLE,
    CKA_WRAP_WITH_TRUSTED,
    CKA_UNWRAP_TEMPLATE,
    CKA_DERIVE_TEMPLATE,
    CKA_ALWAYS_AUTHENTICATE,
    CKA_PUBLIC_KEY_INFO,
    CKA_DECAPSULATE,
    CKA_DECAPSULATE_TEMPLATE,
    CKA_MODULUS,
    CKA_PUBLIC_EXPONENT,
    CKA_PRIVATE_EXPONENT,
    CKA_PRIME_1,
    CKA_PRIME_2,
    CKA_EXPONENT_1,
    CKA_EXPONENT_2,
    CKA_COEFFICIENT,
    CKA_EC_PARAMS,
    CKA_EC_POINT,
    CKA_PARAMETER_SET,
    CKA_SEED,
    CKA_VALUE,
];
const SECRET: &[u64] = &[
    CKA_SENSITIVE,
    CKA_ENCRYPT,
    CKA_DECRYPT,
    CKA_SIGN,
    CKA_VERIFY,
    CKA_WRAP,
    CKA_UNWRAP,
    CKA_EXTRACTABLE,
    CKA_ALWAYS_SENSITIVE,
    CKA_NEVER_EXTRACTABLE,
    CKA_CHECK_VALUE,
    CKA_WRAP_WITH_TRUSTED,
    CKA_TRUSTED,
    CKA_WRAP_TEMPLATE,
    CKA_UNWRAP_TEMPLATE,
    CKA_DERIVE_TEMPLATE,
    CKA_VALUE,
    CKA_VALUE_LEN,
];

/// Private and secret key material: never readable while sensitive or not extractable.
pub const MATERIAL: &[u64] = &[
    CKA_VALUE,
    CKA_PRIVATE_EXPONENT,
    CKA_PRIME_1,
    CKA_PRIME_2,
    CKA_EXPONENT_1,
    CKA_EXPONENT_2,
    CKA_COEFFICIENT,
    CKA_SEED,
];

/// What only the module sets.
const READ_ONLY: &[u64] = &[
    CKA_LOCAL,
    CKA_KEY_GEN_MECHANISM,
    CKA_ALWAYS_SENSITIVE,
    CKA_NEVER_EXTRACTABLE,
    CKA_UNIQUE_ID,
];

const BOOLEANS: &[u64] = &[
    CKA_TOKEN,
    CKA_PRIVATE,
    CKA_MODIFIABLE,
    CKA_COPYABLE,
    CKA_DESTROYABLE,
    CKA_TRUSTED,
    CKA_DERIVE,
    CKA_ENCRYPT,
    CKA_VERIFY,
    CKA_VERIFY_RECOVER,
    CKA_WRAP,
    CKA_ENCAPSULATE,
    CKA_SENSITIVE,
    CKA_DECRYPT,
    CKA_SIGN,
    CKA_SIGN_RECOVER,
    CKA_UNWRAP,
    CKA_EXTRACTABLE,
    CKA_WRAP_WITH_TRUSTED,
    CKA_ALWAYS_AUTHENTICATE,
    CKA_DECAPSULATE,
    CKA_LOCAL,
    CKA_ALWAYS_SENSITIVE,
    CKA_NEVER_EXTRACTABLE,
];

fn is_known(class: CK_OBJECT_CLASS, kind: u64) -> bool {
    let lists: &[&[u64]] = match class {
        CKO_DATA => &[STORAGE, DATA],
        CKO_CERTIFICATE => &[STORAGE, CERTIFICATE],
        CKO_PUBLIC_KEY => &[STORAGE, KEY, PUBLIC],
        CKO_PRIVATE_KEY => &[STORAGE, KEY, PRIVATE],
        CKO_SECRET_KEY => &[STORAGE, KEY, SECRET],
        _ => &[],
    };
    lists.iter().any(|list| list.contains(&kind))
}

/// Whether the class may have the attribute at all.
pub fn allows(class: CK_OBJECT_CLASS, kind: u64) -> bool {
    is_known(class, kind)
}

/// Checks a template that makes an object of `class`, and that its class, if given, is that one.
pub fn check(class: CK_OBJECT_CLASS, template: &Attributes) -> Result<(), Failure> {
    if let Some(given) = template.number(CKA_CLASS)?
        && given != class
    {
        return Err(CKR_TEMPLATE_INCONSISTENT.into());
    }
    for (kind, _) in template.iter() {
        if !is_known(class, kind) {
            return Err(CKR_ATTRIBUTE_TYPE_INVALID.into());
        }
        if READ_ONLY.contains(&kind) {
            return Err(CKR_ATTRIBUTE_READ_ONLY.into());
        }
        if BOOLEANS.contains(&kind) {
            template.boolean(kind)?;
        }
    }
    Ok(())
}

/// Fills in what the template leaves open.
pub fn complete(class: CK_OBJECT_CLASS, origin: Origin, attributes: &mut Attributes) {
    attributes.set_number(CKA_CLASS, class);
    let boolean = |attributes: &mut Attributes, kind: u64, value: bool| {
        attributes.set_default(kind, &[u8::from(value)]);
    };
    let secret = matches!(class, CKO_PRIVATE_KEY | CKO_SECRET_KEY);
    boolean(attributes, CKA_TOKEN, false);
    boolean(attributes, CKA_PRIVATE, secret);
    boolean(attributes, CKA_MODIFIABLE, true);
    boolean(attributes, CKA_COPYABLE, true);
    boolean(attributes, CKA_DESTROYABLE, true);
    attributes.set_default(CKA_LABEL, &[]);
    match class {
        CKO_DATA => {
            for kind in [CKA_APPLICATION, CKA_OBJECT_ID, CKA_VALUE] {
                attributes.set_default(kind, &[]);
            }
        }
        CKO_CERTIFICATE => {
            boolean(attributes, CKA_TRUSTED, false);
            attributes.set_default(CKA_CERTIFICATE_CATEGORY, &0u64.to_le_bytes());
            for kind in [
                CKA_ID,
                CKA_ISSUER,
                CKA_SERIAL_NUMBER,
                CKA_START_DATE,
                CKA_END_DATE,
                CKA_URL,
            ] {
                attributes.set_default(kind, &[]);
            }
        }
        CKO_PUBLIC_KEY | CKO_PRIVATE_KEY | CKO_SECRET_KEY => {
            complete_key(class, origin, attributes)
        }
        _ => {}
    }
}

fn complete_key(class: CK_OBJECT_CLASS, origin: Origin, attributes: &mut Attributes) {
    for kind in [CKA_ID, CKA_START_DATE, CKA_END_DATE] {
        attributes.set_default(kind, &[]);
    }
    attributes.set_default(
        CKA_KEY_GEN_MECHANISM,
        &CK_UNAVAILABLE_INFORMATION.to_le_bytes(),
    );
    attributes.set_boolean(CKA_LOCAL, origin == Origin::Generated);
    let usages: &[u64] = match class {
        CKO_PUBLIC_KEY => &[
            CKA_ENCRYPT,
            CKA_VERIFY,
            CKA_VERIFY_RECOVER,
            CKA_WRAP,
            CKA_DERIVE,
            CKA_ENCAPSULATE,
        ],
        CKO_PRIVATE_KEY => &[
            CKA_DECRYPT,
            CKA_SIGN,
            CKA_SIGN_RECOVER,
            CKA_UNWRAP,
            CKA_DERIVE,
            CKA_DECAPSULATE,
        ],
        _ => &[
            CKA_ENCRYPT,
            CKA_DECRYPT,
            CKA_SIGN,
            CKA_VERIFY,
            CKA_WRAP,
            CKA_UNWRAP,
            CKA_DERIVE,
        ],
    };
    // A template that names a usage means what it names; one that names none gets the everyday
    // ones of the class, never wrapping or derivation, which reach beyond the key itself.
    let named = usages.iter().any(|kind| attributes.contains(*kind));
    for kind in usages {
        let everyday = matches!(
            *kind,
            CKA_ENCRYPT | CKA_DECRYPT | CKA_SIGN | CKA_VERIFY | CKA_ENCAPSULATE | CKA_DECAPSULATE
        );
        attributes.set_default(*kind, &[u8::from(everyday && !named)]);
    }
    if class == CKO_PUBLIC_KEY {
        attributes.set_default(CKA_TRUSTED, &[0]);
        attributes.set_default(CKA_SUBJECT, &[]);
        return;
    }
    attributes.set_default(CKA_SENSITIVE, &[1]);
    attributes.set_default(CKA_EXTRACTABLE, &[0]);
    attributes.set_default(CKA_WRAP_WITH_TRUSTED, &[0]);
    if class == CKO_PRIVATE_KEY {
        attributes.set_default(CKA_ALWAYS_AUTHENTICATE, &[0]);
        attributes.set_default(CKA_SUBJECT, &[]);
    } else {
        attributes.set_default(CKA_TRUSTED, &[0]);
    }
    let inside = origin == Origin::Generated;
    let sensitive = inside && attributes.is_true(CKA_SENSITIVE);
    let kept = inside && !attributes.is_true(CKA_EXTRACTABLE);
    attributes.set_boolean(CKA_ALWAYS_SENSITIVE, sensitive);
    attributes.set_boolean(CKA_NEVER_EXTRACTABLE, kept);
}

/// What C_SetAttributeValue (and C_CopyObject, with `copying`) may change.
pub fn check_change(
    class: CK_OBJECT_CLASS,
    now: &Attributes,
    changes: &Attributes,
    copying: bool,
) -> Result<(), Failure> {
    for (kind, value) in changes.iter() {
        if !is_known(class, kind) {
            return Err(CKR_ATTRIBUTE_TYPE_INVALID.into());
        }
        if BOOLEANS.contains(&kind) {
            changes.boolean(kind)?;
        }
        let same = now.get(kind) == Some(value);
        let allowed = match kind {
            CKA_LABEL | CKA_ID | CKA_SUBJECT | CKA_START_DATE | CKA_END_DATE | CKA_ISSUER
            | CKA_SERIAL_NUMBER | CKA_DERIVE | CKA_ENCRYPT | CKA_DECRYPT | CKA_SIGN
            | CKA_VERIFY | CKA_SIGN_RECOVER | CKA_VERIFY_RECOVER | CKA_WRAP | CKA_UNWRAP
            | CKA_ENCAPSULATE | CKA_DECAPSULATE | CKA_CHECK_VALUE | CKA_APPLICATION
            | CKA_OBJECT_ID => true,
            CKA_VALUE => class == CKO_DATA,
            CKA_SENSITIVE | CKA_WRAP_WITH_TRUSTED => value == [1],
            CKA_EXTRACTABLE | CKA_COPYABLE | CKA_DESTROYABLE => value == [0],
            CKA_TOKEN | CKA_PRIVATE | CKA_MODIFIABLE => copying,
            _ => false,
        };
        if !allowed && !same {
            return Err(CKR_ATTRIBUTE_READ_ONLY.into());
        }
    }
    Ok(())
}
