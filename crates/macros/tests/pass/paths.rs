//! Paths as arguments, in all the ways in which they are written.
#![allow(
    missing_docs,
    reason = "a program, of which nobody reads the documentation"
)]

use std::path::{self, Path, PathBuf};

use crucial::{cloud, shared};
use serde::{Deserialize, Serialize};

#[cloud]
fn join(directory: &Path, file: &path::Path, owned: PathBuf, borrowed: &PathBuf) -> PathBuf {
    directory.join(file).join(owned).join(borrowed)
}

#[derive(Default, Serialize, Deserialize)]
struct Places {
    all: Vec<PathBuf>,
}

#[shared]
impl Places {
    fn add(&mut self, place: &std::path::Path) -> bool {
        self.all.push(place.to_owned());
        place.is_absolute()
    }
}

#[crucial::main]
fn main() {
    let file = PathBuf::from("b");
    let joined = join(Path::new("/a"), &file, "c".into(), &"d".into());
    assert_eq!(joined.run_here().unwrap(), Path::new("/a/b/c/d"));
    let places = crucial::Shared::new(Places::default()).unwrap();
    assert!(places.add(Path::new("/a")).unwrap());
    assert!(!places.deferred().add(&file).wait().unwrap());
}
