//! Keys of a token: templates for making them, and their destruction.

use crate::failure::Failure;
use crate::library::{Library, call};
use crate::operation::KeyKind;
use cryptoki_sys::*;
use std::ffi::c_void;

/// The label of every object that is made here.
const LABEL: &[u8] = b"casemate-bench";
/// OIDs of the curves, in DER.
const P256: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const P384: &[u8] = &[6, 5, 0x2b, 0x81, 4, 0, 0x22];
const RSA_EXPONENT: &[u8] = &[1, 0, 1];

/// The handles of a new key: of the private or secret key first.
pub type Handles = Vec<CK_OBJECT_HANDLE>;

/// Attributes with the memory of their values.
#[derive(Default)]
struct Template {
    kinds: Vec<CK_ATTRIBUTE_TYPE>,
    values: Vec<Vec<u8>>,
}

impl Template {
    fn bytes(mut self, kind: CK_ATTRIBUTE_TYPE, value: &[u8]) -> Self {
        self.kinds.push(kind);
        self.values.push(value.to_vec());
        self
    }

    fn flag(self, kind: CK_ATTRIBUTE_TYPE, value: bool) -> Self {
        self.bytes(kind, &[u8::from(value)])
    }

    fn number(self, kind: CK_ATTRIBUTE_TYPE, value: CK_ULONG) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// The attributes; they point into `self`.
    fn attributes(&mut self) -> Vec<CK_ATTRIBUTE> {
        self.kinds
            .iter()
            .zip(&mut self.values)
            .map(|(kind, value)| CK_ATTRIBUTE {
                type_: *kind,
                pValue: value.as_mut_ptr().cast::<c_void>(),
                ulValueLen: value.len() as CK_ULONG,
            })
            .collect()
    }
}

/// A mechanism without parameters.
pub fn plain(mechanism: CK_MECHANISM_TYPE) -> CK_MECHANISM {
    CK_MECHANISM {
        mechanism,
        pParameter: std::ptr::null_mut(),
        ulParameterLen: 0,
    }
}

/// Makes a key: private or secret, sensitive, not extractable.
pub fn generate(
    library: &Library,
    session: CK_SESSION_HANDLE,
    kind: KeyKind,
    token_object: bool,
) -> Result<Handles, Failure> {
    let common = |template: Template| {
        template
            .flag(CKA_TOKEN, token_object)
            .bytes(CKA_LABEL, LABEL)
    };
    let private = common(Template::default())
        .flag(CKA_PRIVATE, true)
        .flag(CKA_SENSITIVE, true)
        .flag(CKA_EXTRACTABLE, false);
    let public = common(Template::default())
        .flag(CKA_PRIVATE, false)
        .flag(CKA_VERIFY, true);
    let signing = private_signing(private, kind);
    match kind {
        KeyKind::P256 => pair(
            library,
            session,
            CKM_EC_KEY_PAIR_GEN,
            public.bytes(CKA_EC_PARAMS, P256),
            signing,
        ),
        KeyKind::P384 => pair(
            library,
            session,
            CKM_EC_KEY_PAIR_GEN,
            public.bytes(CKA_EC_PARAMS, P384),
            signing,
        ),
        KeyKind::Rsa(bits) => pair(
            library,
            session,
            CKM_RSA_PKCS_KEY_PAIR_GEN,
            public
                .number(CKA_MODULUS_BITS, CK_ULONG::from(bits))
                .bytes(CKA_PUBLIC_EXPONENT, RSA_EXPONENT),
            signing,
        ),
        KeyKind::MlDsa65 => pair(
            library,
            session,
            CKM_ML_DSA_KEY_PAIR_GEN,
            public.number(CKA_PARAMETER_SET, CKP_ML_DSA_65),
            signing,
        ),
        KeyKind::Aes256 => secret(library, session, CKM_AES_KEY_GEN, signing),
        KeyKind::Secret => secret(library, session, CKM_GENERIC_SECRET_KEY_GEN, signing),
    }
}

fn private_signing(private: Template, kind: KeyKind) -> Template {
    match kind {
        KeyKind::Aes256 => private
            .flag(CKA_ENCRYPT, true)
            .flag(CKA_DECRYPT, true)
            .number(CKA_VALUE_LEN, 32),
        KeyKind::Secret => private.flag(CKA_SIGN, true).number(CKA_VALUE_LEN, 32),
        _ => private.flag(CKA_SIGN, true),
    }
}

fn pair(
    library: &Library,
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_TYPE,
    mut public: Template,
    mut private: Template,
) -> Result<Handles, Failure> {
    let (mut public, mut private) = (public.attributes(), private.attributes());
    let mut mechanism = plain(mechanism);
    let (mut public_handle, mut private_handle) = (0, 0);
    // SAFETY: the templates live during the call and come with their lengths.
    unsafe {
        call!(
            library,
            C_GenerateKeyPair(
                session,
                &mut mechanism,
                public.as_mut_ptr(),
                public.len() as CK_ULONG,
                private.as_mut_ptr(),
                private.len() as CK_ULONG,
                &mut public_handle,
                &mut private_handle,
            )
        )?;
    }
    Ok(vec![private_handle, public_handle])
}

fn secret(
    library: &Library,
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_TYPE,
    mut template: Template,
) -> Result<Handles, Failure> {
    let mut template = template.attributes();
    let mut mechanism = plain(mechanism);
    let mut handle = 0;
    // SAFETY: as in `pair`.
    unsafe {
        call!(
            library,
            C_GenerateKey(
                session,
                &mut mechanism,
                template.as_mut_ptr(),
                template.len() as CK_ULONG,
                &mut handle,
            )
        )?;
    }
    Ok(vec![handle])
}

/// Destroys a key.
pub fn destroy(
    library: &Library,
    session: CK_SESSION_HANDLE,
    handles: &Handles,
) -> Result<(), Failure> {
    for handle in handles {
        // SAFETY: a handle is a number.
        unsafe { call!(library, C_DestroyObject(session, *handle))? };
    }
    Ok(())
}
