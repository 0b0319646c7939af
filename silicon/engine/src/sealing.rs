//! Where the sealing secret comes from: a file, or a descriptor that the root of trust passes on.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::lc::{Secret, random};
use crate::masking::SECRET_BYTES;

/// Something that has the module's sealing secret.
pub trait SealingSource {
    /// The secret, `SECRET_BYTES` long; or what is wrong and what to do.
    fn secret(&self) -> Result<Secret, String>;
}

/// A file of `SECRET_BYTES` bytes that only its owner can read.
#[derive(Debug)]
pub struct SealingFile {
    path: PathBuf,
    create: bool,
}

impl SealingFile {
    /// The file at `path`; with `create` it is made if it is not there.
    pub fn new(path: &Path, create: bool) -> Self {
        Self {
            path: path.to_owned(),
            create,
        }
    }

    fn make(&self) -> Result<Secret, String> {
        let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", self.path.display());
        let mut secret = Secret::zeroed(SECRET_BYTES);
        random::fill(secret.expose_mut()).map_err(|e| fail(&e))?;
        // A whole file or none: written beside, synced, then renamed.
        let beside = self.path.with_extension("new");
        let _ = std::fs::remove_file(&beside);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)
            .map_err(|e| fail(&e))?;
        file.write_all(secret.expose())
            .and_then(|()| file.sync_all())
            .map_err(|e| fail(&e))?;
        std::fs::rename(&beside, &self.path).map_err(|e| fail(&e))?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|e| fail(&e))?;
        Ok(secret)
    }
}

impl SealingSource for SealingFile {
    fn secret(&self) -> Result<Secret, String> {
        let fail = |what: &dyn std::fmt::Display| format!("{}: {what}", self.path.display());
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.create => {
                return self.make();
            }
            Err(error) => return Err(fail(&error)),
        };
        let metadata = file.metadata().map_err(|e| fail(&e))?;
        if metadata.mode() & 0o077 != 0 {
            return Err(fail(&format!(
                "mode {:o} lets others read it, expected 600; chmod 600 it after making sure that nobody has",
                metadata.mode() & 0o777
            )));
        }
        if metadata.len() != SECRET_BYTES as u64 {
            return Err(fail(&format!(
                "has {} bytes, expected {SECRET_BYTES}",
                metadata.len()
            )));
        }
        let mut secret = Secret::zeroed(SECRET_BYTES);
        file.read_exact(secret.expose_mut()).map_err(|e| fail(&e))?;
        Ok(secret)
    }
}

/// A sealed memory file with the secret, from the root of trust's ladder: at least `SECRET_BYTES`
/// bytes, at most 64, that nobody can change any more.
#[derive(Debug)]
pub struct SealingDescriptor {
    file: File,
}

impl SealingDescriptor {
    /// The secret behind this descriptor, which is taken over and closed at the end.
    pub fn new(descriptor: OwnedFd) -> Self {
        Self {
            file: File::from(descriptor),
        }
    }
}

impl SealingSource for SealingDescriptor {
    fn secret(&self) -> Result<Secret, String> {
        // SAFETY: plain system call on our descriptor.
        let seals = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_GET_SEALS) };
        let wanted = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
        if seals < 0 || seals & wanted != wanted {
            return Err(
                "the descriptor is not sealed memory: somebody could still change it".into(),
            );
        }
        let length = self
            .file
            .metadata()
            .map_err(|error| error.to_string())?
            .len();
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if !(SECRET_BYTES..=64).contains(&length) {
            return Err(format!(
                "the descriptor has {length} bytes, expected {SECRET_BYTES} to 64"
            ));
        }
        let mut secret = Secret::zeroed(length);
        self.file
            .read_exact_at(secret.expose_mut(), 0)
            .map_err(|error| error.to_string())?;
        Ok(secret)
    }
}
