//! A PKCS#11 library: loaded, initialised, with one token chosen and logged in to.

use crate::failure::Failure;
use cryptoki_sys::*;
use std::ffi::c_void;
use std::ptr;

/// Calls a function of the library; `Err` unless it answers CKR_OK.
macro_rules! call {
    ($library:expr, $name:ident ( $($argument:expr),* $(,)? )) => {
        match $crate::library::answer!($library, $name($($argument),*)) {
            Ok(CKR_OK) => Ok(()),
            Ok(code) => Err($crate::failure::Failure::Token(stringify!($name), code)),
            Err(failure) => Err(failure),
        }
    };
}

/// Calls a function of the library and returns its answer.
macro_rules! answer {
    ($library:expr, $name:ident ( $($argument:expr),* $(,)? )) => {
        match (*$library.functions).$name {
            Some(function) => Ok(function($($argument),*)),
            None => Err($crate::failure::Failure::Unsupported(
                concat!("the library has no ", stringify!($name)).into(),
            )),
        }
    };
}

pub(crate) use {answer, call};

/// The library with its token.
pub struct Library {
    /// Functions of version 2.40, which stand first in every later list.
    pub functions: *const CK_FUNCTION_LIST,
    /// Functions of version 3.2, where the library has them.
    pub functions_3_2: Option<*const CK_FUNCTION_LIST_3_2>,
    slot: CK_SLOT_ID,
    pin: Option<String>,
    login_required: bool,
    /// Its name for itself.
    pub description: String,
    _loaded: libloading::Library,
}

// SAFETY: the library was told that threads use it (CKF_OS_LOCKING_OK) and agreed.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// Loads the library at `path` and chooses the token of this label, else the first one.
    pub fn open(path: &str, token: Option<&str>, pin: Option<&str>) -> Result<Self, Failure> {
        let broken = |error: libloading::Error| Failure::Other(format!("{path}: {error}"));
        // SAFETY: the user names the library to be measured; loading it runs its code.
        let loaded = unsafe { libloading::Library::new(path) }.map_err(broken)?;
        let mut functions: *mut CK_FUNCTION_LIST = ptr::null_mut();
        // SAFETY: the symbol's type is the standard's.
        unsafe {
            let get = loaded
                .get::<unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV>(
                    b"C_GetFunctionList\0",
                )
                .map_err(broken)?;
            ok("C_GetFunctionList", get(&mut functions))?;
        }
        if functions.is_null() {
            return Err(Failure::Other(format!("{path} gives no functions")));
        }
        let mut library = Self {
            functions,
            functions_3_2: latest(&loaded),
            slot: 0,
            pin: pin.map(str::to_owned),
            login_required: false,
            description: String::new(),
            _loaded: loaded,
        };
        library.begin(token)?;
        Ok(library)
    }

    fn begin(&mut self, token: Option<&str>) -> Result<(), Failure> {
        let mut arguments = CK_C_INITIALIZE_ARGS {
            CreateMutex: None,
            DestroyMutex: None,
            LockMutex: None,
            UnlockMutex: None,
            flags: CKF_OS_LOCKING_OK,
            pReserved: ptr::null_mut(),
        };
        // SAFETY: all-zero is a valid CK_INFO; every pointer lives during its call.
        let info: CK_INFO = unsafe {
            call!(self, C_Initialize((&raw mut arguments).cast::<c_void>()))?;
            let mut info = std::mem::zeroed();
            call!(self, C_GetInfo(&mut info))?;
            info
        };
        let (major, minor) = (info.libraryVersion.major, info.libraryVersion.minor);
        self.description = format!("{} {major}.{minor}", text(&info.libraryDescription));
        let mut found = Vec::new();
        for slot in self.slots()? {
            // SAFETY: all-zero is a valid output argument.
            let info: CK_TOKEN_INFO = unsafe {
                let mut info = std::mem::zeroed();
                call!(self, C_GetTokenInfo(slot, &mut info))?;
                info
            };
            let label = text(&info.label);
            if token.is_none_or(|wanted| wanted == label) {
                self.slot = slot;
                self.login_required = info.flags & CKF_LOGIN_REQUIRED != 0;
                return self.login();
            }
            found.push(label);
        }
        Err(Failure::Other(match token {
            Some(token) => format!("no token is called {token:?}; there are {found:?}"),
            None => "no slot has a token".into(),
        }))
    }

    fn slots(&self) -> Result<Vec<CK_SLOT_ID>, Failure> {
        let mut count = 0;
        // SAFETY: without a list the count alone is asked for; then the list has room for it.
        unsafe {
            call!(self, C_GetSlotList(CK_TRUE, ptr::null_mut(), &mut count))?;
            let mut slots = vec![0; usize::try_from(count).unwrap_or(0)];
            call!(self, C_GetSlotList(CK_TRUE, slots.as_mut_ptr(), &mut count))?;
            slots.truncate(usize::try_from(count).unwrap_or(0));
            Ok(slots)
        }
    }

    fn login(&self) -> Result<(), Failure> {
        let Some(pin) = &self.pin else {
            if self.login_required {
                return Err(Failure::Other("the token wants a PIN".into()));
            }
            return Ok(());
        };
        let session = self.session(0)?;
        let mut pin = pin.clone().into_bytes();
        // SAFETY: the PIN comes with its length. The session stays open: with the last one the
        // login would end.
        match unsafe {
            answer!(
                self,
                C_Login(session, CKU_USER, pin.as_mut_ptr(), pin.len() as CK_ULONG)
            )
        }? {
            CKR_OK | CKR_USER_ALREADY_LOGGED_IN => Ok(()),
            code => Err(Failure::Token("C_Login", code)),
        }
    }

    /// A new session that may write, with further flags.
    pub fn session(&self, flags: CK_FLAGS) -> Result<CK_SESSION_HANDLE, Failure> {
        let mut session = 0;
        // SAFETY: the handle is an output argument; no callback is given.
        unsafe {
            call!(
                self,
                C_OpenSession(
                    self.slot,
                    CKF_SERIAL_SESSION | CKF_RW_SESSION | flags,
                    ptr::null_mut(),
                    None,
                    &mut session,
                )
            )?;
        }
        Ok(session)
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: nothing of the library is used after this. A failure has nobody to hear of it.
        let _ = unsafe { answer!(self, C_Finalize(ptr::null_mut())) };
    }
}

/// The functions of version 3.2, if there are such.
fn latest(loaded: &libloading::Library) -> Option<*const CK_FUNCTION_LIST_3_2> {
    type GetInterface = unsafe extern "C" fn(
        *const CK_UTF8CHAR,
        *const CK_VERSION,
        *mut *mut CK_INTERFACE,
        CK_FLAGS,
    ) -> CK_RV;
    let version = CK_VERSION { major: 3, minor: 2 };
    let mut interface: *mut CK_INTERFACE = ptr::null_mut();
    // SAFETY: the symbol's type is the standard's; the interface is static and asked for by its
    // version, which tells its type.
    unsafe {
        let get = loaded.get::<GetInterface>(b"C_GetInterface\0").ok()?;
        if get(c"PKCS 11".as_ptr().cast(), &version, &mut interface, 0) != CKR_OK
            || interface.is_null()
        {
            return None;
        }
        let functions = (*interface).pFunctionList.cast::<CK_FUNCTION_LIST_3_2>();
        (!functions.is_null()).then_some(functions.cast_const())
    }
}

fn ok(call: &'static str, code: CK_RV) -> Result<(), Failure> {
    match code {
        CKR_OK => Ok(()),
        code => Err(Failure::Token(call, code)),
    }
}

/// A text that is padded with blanks.
fn text(padded: &[CK_UTF8CHAR]) -> String {
    String::from_utf8_lossy(padded)
        .trim_end_matches([' ', '\0'])
        .to_owned()
}
