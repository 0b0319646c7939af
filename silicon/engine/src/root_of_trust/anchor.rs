//! The `file` anchor: where the device secrets of a host without a TPM or a real root of trust lie.
//!
//! Rust and not Python: it makes and reads the secrets, so that Python handles only the path.
//!
//! The file: 8 bytes `CMANCHR1`, obfuscation key (32), CSR MAC key (64), SHA-384 of all before.
//! It is mode 0600, made once and never changed. Whoever reads it and the fuses has the device's
//! identity: that is what development on a file means.

use super::primitives::sha384;
use super::vault::DeviceSecrets;
use crate::lc::random;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"CMANCHR1";
const BODY_SIZE: usize = 8 + 32 + 64;
/// The size of an anchor file in bytes.
pub const ANCHOR_SIZE: usize = BODY_SIZE + 48;

/// Why an anchor file cannot be used.
#[derive(Debug)]
pub enum AnchorError {
    /// The file cannot be opened, read or written.
    Io(std::io::Error),
    /// Someone else could read or replace it: what was found.
    Permissions(String),
    /// It is not an anchor, or it is damaged: what was found.
    Damaged(&'static str),
}

impl std::fmt::Display for AnchorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Permissions(found) => {
                write!(
                    f,
                    "an anchor is a file of mode 0600 of the user who runs: {found}"
                )
            }
            Self::Damaged(found) => write!(f, "not an undamaged anchor file: {found}"),
        }
    }
}

impl std::error::Error for AnchorError {}

impl From<std::io::Error> for AnchorError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// Makes a new anchor with fresh secrets from the operating system; refuses an existing file.
///
/// # Errors
/// [`AnchorError::Io`] if the file exists or cannot be written.
pub fn create_anchor(path: &Path) -> Result<(), AnchorError> {
    let mut content = Zeroizing::new(Vec::with_capacity(ANCHOR_SIZE));
    content.extend_from_slice(MAGIC);
    content.resize(BODY_SIZE, 0);
    if let Some(secrets) = content.get_mut(MAGIC.len()..) {
        random::fill(secrets).map_err(internal)?;
    }
    let digest = sha384(&content).map_err(internal)?;
    content.extend_from_slice(&digest);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)?;
    file.write_all(&content)?;
    file.sync_all()?;
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Reads the secrets of an anchor.
///
/// # Errors
/// [`AnchorError`]: missing, readable by others, or damaged.
pub fn read_anchor(path: &Path) -> Result<DeviceSecrets, AnchorError> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    // SAFETY: geteuid has no preconditions.
    let user = unsafe { libc::geteuid() };
    if !metadata.is_file() {
        return Err(AnchorError::Permissions(
            "this is no regular file".to_owned(),
        ));
    }
    if metadata.uid() != user {
        return Err(AnchorError::Permissions(format!(
            "it belongs to user {}, this is user {user}",
            metadata.uid()
        )));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(AnchorError::Permissions(format!(
            "its mode is {:04o}",
            metadata.mode() & 0o7777
        )));
    }
    if metadata.len() != ANCHOR_SIZE as u64 {
        return Err(AnchorError::Damaged("its size is not 152 bytes"));
    }
    let mut content = Zeroizing::new([0u8; ANCHOR_SIZE]);
    file.read_exact(content.as_mut_slice())?;
    let Some((body, digest)) = content.split_at_checked(BODY_SIZE) else {
        return Err(AnchorError::Damaged("it is cut short"));
    };
    let Some(secrets) = body.strip_prefix(MAGIC) else {
        return Err(AnchorError::Damaged("it does not begin with CMANCHR1"));
    };
    if sha384(body).map_err(internal)? != digest {
        return Err(AnchorError::Damaged(
            "its digest does not match its content",
        ));
    }
    DeviceSecrets::new(secrets).map_err(|_| AnchorError::Damaged("its fields have the wrong sizes"))
}

fn internal(_: crate::lc::Error) -> AnchorError {
    AnchorError::Io(std::io::Error::other("the cryptographic library failed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Folder(std::path::PathBuf);
    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn folder(name: &str) -> Folder {
        let path =
            std::env::temp_dir().join(format!("casemate-anchor-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    #[test]
    fn makes_once_and_reads() {
        let folder = folder("once");
        let path = folder.0.join("anchor");
        create_anchor(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        read_anchor(&path).unwrap();
        assert!(matches!(create_anchor(&path), Err(AnchorError::Io(_))));
    }

    #[test]
    fn refuses_damage_and_open_modes() {
        let folder = folder("damage");
        let path = folder.0.join("anchor");
        create_anchor(&path).unwrap();
        let good = std::fs::read(&path).unwrap();
        for position in [0, 8, 40, 151] {
            let mut bad = good.clone();
            bad[position] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert!(
                matches!(read_anchor(&path), Err(AnchorError::Damaged(_))),
                "{position}"
            );
        }
        std::fs::write(&path, &good[..100]).unwrap();
        assert!(matches!(read_anchor(&path), Err(AnchorError::Damaged(_))));
        std::fs::write(&path, &good).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            read_anchor(&path),
            Err(AnchorError::Permissions(_))
        ));
    }
}
