//! libcasemate_pkcs11.so
