//! Where the server that is embedded in a process listens.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use crucial_proto::{Endpoint, Endpoints};

use crate::directory::{Base, FreshDirectory, bases};
use crate::names::{self, user};
use crate::socket::remove_stale;

/// A place for the socket of an embedded server.
#[derive(Debug)]
pub struct Place {
    endpoint: Endpoint,
    _directory: Option<FreshDirectory>,
}

impl Place {
    /// Where to listen. The place must live as long as the server.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

/// Why a server cannot listen.
#[derive(Debug)]
pub enum Refusal {
    /// Another place may do.
    Here(String),
    /// No place does.
    Anywhere(String),
}

/// Finds a place for the socket of a server that is embedded in `process`, by trying to `listen` at one after the other:
/// in the user's directory, in a new one where that is not private, and without a file where neither can be made.
///
/// # Errors
///
/// Why each place will not do.
pub fn listen_somewhere<T>(
    process: u32,
    random: u64,
    listen: impl FnMut(&Endpoint) -> Result<T, Refusal>,
) -> Result<(Place, T), String> {
    listen_in(&bases(), process, random, listen)
}

fn listen_in<T>(
    bases: &[Base],
    process: u32,
    random: u64,
    mut listen: impl FnMut(&Endpoint) -> Result<T, Refusal>,
) -> Result<(Place, T), String> {
    let mut reasons = Vec::new();
    let candidates = bases.iter().map(Some).chain([None]);
    for base in candidates {
        let place = match base {
            Some(base) => in_base(base, process, random),
            None => anonymous(process, random),
        };
        let place = place.map_err(|error| Refusal::Here(error.to_string()));
        let listening = place.and_then(|place| {
            let listening = listen(&place.endpoint)?;
            Ok((place, listening))
        });
        match listening {
            Ok(listening) => return Ok(listening),
            Err(Refusal::Anywhere(reason)) => return Err(reason),
            Err(Refusal::Here(reason)) => {
                let place = base.map_or("without a file".to_owned(), ToString::to_string);
                tracing::debug!(place, reason, "no place for a socket");
                reasons.push(format!("{place}: {reason}"));
            }
        }
    }
    Err(reasons.join("; "))
}

fn in_base(base: &Base, process: u32, random: u64) -> io::Result<Place> {
    let refused = match base.make() {
        Ok(directory) => {
            // A comfort: a directory that cannot be read can still have one more socket.
            let _ = remove_stale(&directory);
            return Ok(Place {
                endpoint: endpoint(names::embedded(&directory, process, random))?,
                _directory: None,
            });
        }
        Err(error) => error,
    };
    if refused.kind() != ErrorKind::PermissionDenied {
        return Err(refused);
    }
    let Ok(fresh) = base.make_fresh(random) else {
        return Err(refused);
    };
    let (instead, reason) = (fresh.path().display(), refused);
    tracing::warn!(%reason, %instead, "the directory of local sockets is not private: remove it");
    Ok(Place {
        endpoint: endpoint(names::embedded(fresh.path(), process, random))?,
        _directory: Some(fresh),
    })
}

/// An abstract socket, which any user can connect to; so the server looks at credentials.
fn anonymous(process: u32, random: u64) -> io::Result<Place> {
    let directory = PathBuf::from(format!("@crucial-{}", user()));
    Ok(Place {
        endpoint: endpoint(names::embedded(&directory, process, random))?,
        _directory: None,
    })
}

/// The endpoint of a path that other processes read from a setting.
fn endpoint(path: PathBuf) -> io::Result<Endpoint> {
    let endpoint = Endpoint::Unix(path);
    let read = endpoint.to_string().parse::<Endpoints>();
    let read =
        read.map_err(|error| io::Error::new(ErrorKind::InvalidFilename, error.to_string()))?;
    match read.others().is_empty() && *read.first() == endpoint {
        true => Ok(endpoint),
        false => Err(io::Error::new(
            ErrorKind::InvalidFilename,
            format!("{endpoint} cannot be written as an address: a comma, spaces, or no UTF-8"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use super::*;
    use crate::names::is_own;
    use crate::socket::{bind, check_peer, connect};

    fn listen(base: &Path) -> (Place, crate::socket::Listener) {
        let bind = |endpoint: &Endpoint| match endpoint {
            Endpoint::Unix(path) => bind(path).map_err(|error| Refusal::Here(error.to_string())),
            Endpoint::Tcp { .. } => unreachable!(),
        };
        listen_in(&[Base::at(base)], 1, 2, bind).unwrap()
    }

    fn path(place: &Place) -> &Path {
        match place.endpoint() {
            Endpoint::Unix(path) => path,
            Endpoint::Tcp { .. } => unreachable!(),
        }
    }

    /// Where the server listens, having made sure that it can be reached there by this user.
    fn found(base: &Path) -> PathBuf {
        let (place, listener) = listen(base);
        let path = path(&place).to_owned();
        assert!(is_own(&path));
        let client = connect(&path).unwrap();
        let (server, _) = listener.socket.accept().unwrap();
        check_peer(&server).unwrap();
        check_peer(&client).unwrap();
        path
    }

    #[test]
    fn a_directory_of_another_is_passed_over() {
        let parent = tempfile::tempdir().unwrap();
        let shared = parent.path().join(format!("crucial-{}", user()));
        assert!(found(parent.path()).starts_with(&shared));
        assert_eq!(fs::read_dir(&shared).unwrap().count(), 0);

        fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
        let elsewhere = found(parent.path());
        assert!(!elsewhere.starts_with(&shared) && elsewhere.starts_with(parent.path()));
        assert!(!elsewhere.parent().unwrap().exists(), "removed at the end");

        fs::remove_dir(&shared).unwrap();
        let theirs = tempfile::tempdir().unwrap();
        symlink(theirs.path(), &shared).unwrap();
        assert!(!found(parent.path()).starts_with(&shared));
        assert_eq!(fs::read_dir(theirs.path()).unwrap().count(), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn where_no_file_can_be_made_the_socket_has_none() {
        let parent = tempfile::tempdir().unwrap();
        let deep = parent.path().join("d".repeat(90));
        fs::create_dir(&deep).unwrap();
        let comma = parent.path().join("a,b");
        fs::create_dir(&comma).unwrap();
        let bases = [
            parent.path().join("missing"),
            deep,
            comma,
            "/proc".into(),
            "relative".into(),
        ];
        for base in bases {
            let found = found(&base);
            assert!(
                found.starts_with(format!("@crucial-{}", user())),
                "{found:?}"
            );
        }
    }

    #[test]
    fn the_error_names_each_setting_and_limit() {
        let parent = tempfile::tempdir().unwrap();
        let deep = parent.path().join("d".repeat(90));
        fs::create_dir(&deep).unwrap();
        let bases = [Base::at(&deep), Base::at(&parent.path().join("missing"))];
        let listen = |_: &Endpoint| Err::<(), _>(Refusal::Here("no sockets here".to_owned()));
        let error = listen_in(&bases, 1, 2, listen).unwrap_err();
        for part in [
            "TMPDIR=",
            "107",
            "No such file",
            "without a file: no sockets here",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        // A reason that holds everywhere is said once.
        let listen = |_: &Endpoint| Err::<(), _>(Refusal::Anywhere("no threads".to_owned()));
        let bases = [Base::at(parent.path())];
        assert_eq!(listen_in(&bases, 1, 2, listen).unwrap_err(), "no threads");
    }
}
