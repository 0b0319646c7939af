//! Which partitions this process can reach: sockets in configured places and in the registries.
//!
//! A socket is trusted only if root, the own user or a configured user owns it and its folder, and
//! nobody else may write into that folder: an impostor must not collect PINs.

use casemate_transport::client::VSOCK_PREFIX;
use std::ffi::OsString;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The socket's name in a partition's folder.
pub const SOCKET_NAME: &str = "hsm.sock";

/// What the environment says about where to look.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// CASEMATE_SOCKETS: partition folders, registries, sockets.
    pub configured: Vec<PathBuf>,
    /// Folders of partition folders.
    pub registries: Vec<PathBuf>,
    /// Users that may own a socket.
    pub trusted: Vec<u32>,
}

impl Places {
    /// From the environment of this process.
    pub fn from_environment() -> Self {
        // SAFETY: cannot fail.
        let user = unsafe { libc::geteuid() };
        // SAFETY: cannot fail. A program with raised rights does not take its caller's word.
        let raised = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
        Self::from_variables(user, |name| std::env::var_os(name).filter(|_| !raised))
    }

    /// From variables, for the user with this number.
    pub fn from_variables(user: u32, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let text = |name| variable(name).filter(|value| !value.is_empty());
        let configured = text("CASEMATE_SOCKETS")
            .map(|value| std::env::split_paths(&value).collect())
            .unwrap_or_default();
        // The same folders, in the same order, as casemate.hsm.folders and the Python client.
        let own = text("XDG_RUNTIME_DIR")
            .map_or_else(|| PathBuf::from(format!("/run/user/{user}")), PathBuf::from);
        let mut registries: Vec<PathBuf> = text("CASEMATE_RUNTIME")
            .map(PathBuf::from)
            .into_iter()
            .collect();
        registries.extend([
            own.join("casemate"),
            PathBuf::from(format!("/tmp/casemate-{user}")),
            PathBuf::from("/run/casemate"),
        ]);
        let mut trusted = vec![0, user];
        if let Some(users) = text("CASEMATE_TRUSTED_UIDS") {
            trusted.extend(
                users
                    .to_string_lossy()
                    .split([':', ',', ' '])
                    .filter_map(|number| number.parse::<u32>().ok()),
            );
        }
        Self {
            configured,
            registries,
            trusted,
        }
    }

    /// The partitions there are: sorted by name, each socket once.
    pub fn partitions(&self) -> Vec<Partition> {
        let mut found = Vec::new();
        for place in &self.configured {
            if let Ok(address) = place.strip_prefix(VSOCK_PREFIX) {
                // A partition of the host, for a virtual machine: the hypervisor vouches for it.
                let name = format!("vsock-{}", address.display()).replace('/', "-");
                found.push(Partition {
                    name,
                    socket: place.clone(),
                });
            } else if self.is_socket(place) {
                found.extend(Partition::of_socket(place));
            } else if self.is_socket(&place.join(SOCKET_NAME)) {
                found.extend(Partition::of_socket(&place.join(SOCKET_NAME)));
            } else {
                self.scan(place, &mut found);
            }
        }
        for registry in &self.registries {
            self.scan(registry, &mut found);
        }
        // A stable sort: of equal names the configured one comes first.
        found.sort_by(|a, b| a.name.cmp(&b.name));
        let mut seen: Vec<PathBuf> = Vec::new();
        found.retain(|partition| {
            let path = partition
                .socket
                .canonicalize()
                .unwrap_or_else(|_| partition.socket.clone());
            let new = !seen.contains(&path);
            seen.push(path);
            new
        });
        found
    }

    fn scan(&self, registry: &Path, found: &mut Vec<Partition>) {
        let Ok(entries) = std::fs::read_dir(registry) else {
            return;
        };
        for entry in entries.flatten() {
            let socket = entry.path().join(SOCKET_NAME);
            if self.is_socket(&socket) {
                found.extend(Partition::of_socket(&socket));
            }
        }
    }

    /// Whether this is a socket that may be trusted.
    fn is_socket(&self, path: &Path) -> bool {
        let Ok(socket) = std::fs::symlink_metadata(path) else {
            return false;
        };
        let Some(Ok(folder)) = path.parent().map(std::fs::metadata) else {
            return false;
        };
        socket.file_type().is_socket()
            && self.trusted.contains(&socket.uid())
            && self.trusted.contains(&folder.uid())
            && folder.mode() & 0o022 == 0
    }
}

/// A partition as the file system shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The folder's name.
    pub name: String,
    /// The socket.
    pub socket: PathBuf,
}

impl Partition {
    fn of_socket(socket: &Path) -> Option<Self> {
        let folder = socket.parent()?;
        let name = match folder.file_name() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => folder
                .canonicalize()
                .ok()?
                .file_name()?
                .to_string_lossy()
                .into_owned(),
        };
        Some(Self {
            name,
            socket: socket.to_path_buf(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    struct Registry(PathBuf);

    impl Registry {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("cm-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
            Self(path)
        }

        fn partition(&self, name: &str) -> (PathBuf, UnixListener) {
            let folder = self.0.join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
            let socket = folder.join(SOCKET_NAME);
            let listener = UnixListener::bind(&socket).unwrap();
            (folder, listener)
        }

        fn places(&self) -> Places {
            Places {
                registries: vec![self.0.clone()],
                trusted: vec![0, unsafe { libc::geteuid() }],
                ..Places::default()
            }
        }
    }

    impl Drop for Registry {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn names(places: &Places) -> Vec<String> {
        places.partitions().into_iter().map(|p| p.name).collect()
    }

    #[test]
    fn partitions_are_sorted_and_named_once() {
        let registry = Registry::new("sorted");
        let web = registry.partition("web");
        let _db = registry.partition("db");
        let mut places = registry.places();
        places.configured = vec![web.0.clone(), web.0.join(SOCKET_NAME), registry.0.clone()];
        assert_eq!(names(&places), ["db", "web"]);
    }

    #[test]
    fn what_is_no_socket_is_no_partition() {
        let registry = Registry::new("files");
        std::fs::create_dir_all(registry.0.join("fake")).unwrap();
        std::fs::write(registry.0.join("fake").join(SOCKET_NAME), b"").unwrap();
        let (folder, _listener) = registry.partition("real");
        std::fs::create_dir_all(registry.0.join("link")).unwrap();
        std::os::unix::fs::symlink(
            folder.join(SOCKET_NAME),
            registry.0.join("link").join(SOCKET_NAME),
        )
        .unwrap();
        assert_eq!(names(&registry.places()), ["real"]);
    }

    #[test]
    fn a_folder_that_others_may_write_is_not_trusted() {
        let registry = Registry::new("open");
        let (folder, _listener) = registry.partition("web");
        for mode in [0o770, 0o707] {
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(names(&registry.places()).is_empty());
        }
    }

    #[test]
    fn a_foreign_owner_is_trusted_only_if_configured() {
        let registry = Registry::new("owner");
        let _web = registry.partition("web");
        let mut places = registry.places();
        places.trusted = vec![4_000_000_000];
        assert!(names(&places).is_empty());
        places.trusted.push(unsafe { libc::geteuid() });
        assert_eq!(names(&places), ["web"]);
    }

    #[test]
    fn the_environment_names_places_and_users() {
        let places = Places::from_variables(1000, |name| match name {
            "CASEMATE_SOCKETS" => Some("/a:/b/hsm.sock".into()),
            "CASEMATE_TRUSTED_UIDS" => Some("7:8,9".into()),
            _ => None,
        });
        assert_eq!(
            places.configured,
            [PathBuf::from("/a"), PathBuf::from("/b/hsm.sock")]
        );
        assert_eq!(
            places.registries,
            [
                PathBuf::from("/run/user/1000/casemate"),
                PathBuf::from("/tmp/casemate-1000"),
                PathBuf::from("/run/casemate")
            ]
        );
        assert_eq!(places.trusted, [0, 1000, 7, 8, 9]);
    }
}
