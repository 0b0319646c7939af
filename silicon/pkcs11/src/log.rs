//! Says on standard error why a call failed, where CASEMATE_PKCS11_LOG is set: PKCS#11 itself has
//! room for a number only.

/// One line. No secret may be in it.
#[cold]
pub fn say(text: std::fmt::Arguments<'_>) {
    if std::env::var_os("CASEMATE_PKCS11_LOG").is_some_and(|value| !value.is_empty()) {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "casemate-pkcs11: {text}");
    }
}
