//! The function lists and interfaces: what a program gets hold of first.
//!
//! Only three symbols leave the library: the functions of another module that is loaded into the same
//! process cannot take the place of ours, nor ours of its.

use crate::entry::{
    asynchronous::*, decrypt::*, digest::*, dual::*, encrypt::*, general::*, key::*, message::*,
    object::*, random::*, session::*, sign::*, slot::*, verify::*,
};
use crate::outcome::guard;
use crate::output::store;
use cryptoki_sys::*;
use std::ffi::CStr;

macro_rules! function_list {
    ($name:ident: $type:ident, $major:literal $minor:literal, $($list:ident)*) => {
        function_list!(@expand $name $type $major $minor [$($list)*] []);
    };
    (@expand $name:ident $type:ident $major:literal $minor:literal [base $($rest:ident)*] [$($f:ident)*]) => {
        function_list!(@expand $name $type $major $minor [$($rest)*] [$($f)*
            C_Initialize C_Finalize C_GetInfo C_GetFunctionList C_GetSlotList C_GetSlotInfo
            C_GetTokenInfo C_GetMechanismList C_GetMechanismInfo C_InitToken C_InitPIN C_SetPIN
            C_OpenSession C_CloseSession C_CloseAllSessions C_GetSessionInfo C_GetOperationState
            C_SetOperationState C_Login C_Logout C_CreateObject C_CopyObject C_DestroyObject
            C_GetObjectSize C_GetAttributeValue C_SetAttributeValue C_FindObjectsInit
            C_FindObjects C_FindObjectsFinal C_EncryptInit C_Encrypt C_EncryptUpdate
            C_EncryptFinal C_DecryptInit C_Decrypt C_DecryptUpdate C_DecryptFinal C_DigestInit
            C_Digest C_DigestUpdate C_DigestKey C_DigestFinal C_SignInit C_Sign C_SignUpdate
            C_SignFinal C_SignRecoverInit C_SignRecover C_VerifyInit C_Verify C_VerifyUpdate
            C_VerifyFinal C_VerifyRecoverInit C_VerifyRecover C_DigestEncryptUpdate
            C_DecryptDigestUpdate C_SignEncryptUpdate C_DecryptVerifyUpdate C_GenerateKey
            C_GenerateKeyPair C_WrapKey C_UnwrapKey C_DeriveKey C_SeedRandom C_GenerateRandom
            C_GetFunctionStatus C_CancelFunction C_WaitForSlotEvent
        ]);
    };
    (@expand $name:ident $type:ident $major:literal $minor:literal [since_3_0 $($rest:ident)*] [$($f:ident)*]) => {
        function_list!(@expand $name $type $major $minor [$($rest)*] [$($f)*
            C_GetInterfaceList C_GetInterface C_LoginUser C_SessionCancel C_MessageEncryptInit
            C_EncryptMessage C_EncryptMessageBegin C_EncryptMessageNext C_MessageEncryptFinal
            C_MessageDecryptInit C_DecryptMessage C_DecryptMessageBegin C_DecryptMessageNext
            C_MessageDecryptFinal C_MessageSignInit C_SignMessage C_SignMessageBegin
            C_SignMessageNext C_MessageSignFinal C_MessageVerifyInit C_VerifyMessage
            C_VerifyMessageBegin C_VerifyMessageNext C_MessageVerifyFinal
        ]);
    };
    (@expand $name:ident $type:ident $major:literal $minor:literal [since_3_2 $($rest:ident)*] [$($f:ident)*]) => {
        function_list!(@expand $name $type $major $minor [$($rest)*] [$($f)*
            C_EncapsulateKey C_DecapsulateKey C_VerifySignatureInit C_VerifySignature
            C_VerifySignatureUpdate C_VerifySignatureFinal C_GetSessionValidationFlags
            C_AsyncComplete C_AsyncGetID C_AsyncJoin C_WrapKeyAuthenticated
            C_UnwrapKeyAuthenticated
        ]);
    };
    (@expand $name:ident $type:ident $major:literal $minor:literal [] [$($f:ident)*]) => {
        static $name: Constant<$type> = Constant($type {
            version: CK_VERSION { major: $major, minor: $minor },
            $($f: Some($f),)*
        });
    };
}

/// A constant that C reads and nobody writes.
#[repr(transparent)]
struct Constant<T>(T);

// SAFETY: never written; its pointers are to constants and functions.
unsafe impl<T> Sync for Constant<T> {}

function_list!(LIST_2_40: CK_FUNCTION_LIST, 2 40, base);
function_list!(LIST_3_0: CK_FUNCTION_LIST_3_0, 3 0, base since_3_0);
function_list!(LIST_3_2: CK_FUNCTION_LIST_3_2, 3 2, base since_3_0 since_3_2);

const NAME: &CStr = c"PKCS 11";

const fn interface<T>(list: &'static Constant<T>) -> CK_INTERFACE {
    CK_INTERFACE {
        pInterfaceName: NAME.as_ptr().cast_mut().cast(),
        pFunctionList: (&raw const list.0).cast_mut().cast(),
        flags: 0,
    }
}

/// Newest first: the first is the one that a program gets if it names no version.
static INTERFACES: Constant<[CK_INTERFACE; 3]> = Constant([
    interface(&LIST_3_2),
    interface(&LIST_3_0),
    interface(&LIST_2_40),
]);

/// The version that begins each list.
const VERSIONS: [(u8, u8); 3] = [(3, 2), (3, 0), (2, 40)];

/// Gives the function list of PKCS#11 2.40.
///
/// # Safety
/// The pointer, if it is not null, is the caller's to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    // SAFETY: by this function's contract.
    guard(|| unsafe { store(list, (&raw const LIST_2_40.0).cast_mut()) })
}

/// Gives the interfaces there are.
///
/// # Safety
/// As PKCS#11 has it: the list, if it is not null, has the room that the count says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetInterfaceList(
    list: *mut CK_INTERFACE,
    count: *mut CK_ULONG,
) -> CK_RV {
    guard(|| {
        // SAFETY: by this function's contract.
        let Some(count) = (unsafe { count.as_mut() }) else {
            return Err(CKR_ARGUMENTS_BAD);
        };
        let room = *count;
        *count = INTERFACES.0.len() as CK_ULONG;
        if list.is_null() {
            return Ok(());
        }
        if room < *count {
            return Err(CKR_BUFFER_TOO_SMALL);
        }
        // SAFETY: the room has just been checked.
        unsafe { std::ptr::copy_nonoverlapping(INTERFACES.0.as_ptr(), list, INTERFACES.0.len()) };
        Ok(())
    })
}

/// Gives the interface of this name and version; null stands for the default of each.
///
/// # Safety
/// As PKCS#11 has it: the name ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetInterface(
    name: *mut CK_UTF8CHAR,
    version: *mut CK_VERSION,
    found: *mut *mut CK_INTERFACE,
    flags: CK_FLAGS,
) -> CK_RV {
    guard(|| {
        // SAFETY: by this function's contract.
        let (name, version) = unsafe {
            let name = (!name.is_null()).then(|| CStr::from_ptr(name.cast_const().cast()));
            (name, version.as_ref())
        };
        if found.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let matching = INTERFACES.0.iter().zip(VERSIONS).find(|(interface, own)| {
            name.is_none_or(|name| name == NAME)
                && version.is_none_or(|wanted| (wanted.major, wanted.minor) == *own)
                && interface.flags & flags == flags
        });
        match matching {
            // SAFETY: by this function's contract.
            Some((interface, _)) => unsafe {
                store(found, std::ptr::from_ref(interface).cast_mut())
            },
            None => Err(CKR_FUNCTION_FAILED),
        }
    })
}
