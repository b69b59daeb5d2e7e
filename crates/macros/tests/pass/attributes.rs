//! Attributes, visibility, and types in modules: nothing warns that the user did not ask for.
#![deny(warnings)]
#![deny(missing_docs)]

use crucial::{Shared, cloud, shared};

/// A module.
pub mod library {
    use crucial::shared;
    use serde::{Deserialize, Serialize};

    /// A documented type.
    #[derive(Serialize, Deserialize)]
    pub struct Counter {
        pub(crate) value: u64,
    }

    #[shared]
    impl Counter {
        /// A documented method.
        pub fn add(&mut self, n: u64) -> u64 {
            self.value += n;
            self.value
        }

        /// An old method.
        #[deprecated(note = "add")]
        pub fn plus(&mut self, n: u64) -> u64 {
            self.value += n;
            self.value
        }

        #[must_use]
        pub(super) fn get(&self) -> u64 {
            self.value
        }

        #[allow(clippy::too_many_arguments)]
        #[inline]
        fn private(&self, _unused: u64) {}
    }

    impl Counter {
        /// A local method.
        pub fn local(&self) -> u64 {
            self.value
        }
    }
}

/// Documented.
#[cloud]
#[deprecated]
pub fn old(_unused: u64) {}

#[cloud]
#[must_use]
#[inline]
fn sum(#[allow(unused_variables)] a: u64, b: u64) -> u64 {
    b
}

mod one {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub(crate) struct Same;

    #[crucial::shared]
    impl Same {
        pub(crate) fn which(&self) -> u8 {
            1
        }
    }
}

mod two {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub(crate) struct Same;

    #[crucial::shared]
    impl Same {
        pub(crate) fn which(&self) -> u8 {
            2
        }
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Quiet;

#[shared(name = "tests::Quiet")]
impl Quiet {}

fn main() {
    let counter = Shared::new(library::Counter { value: 0 }).unwrap();
    assert_eq!(counter.add(2).unwrap(), 2);
    #[allow(deprecated)]
    {
        assert_eq!(counter.plus(2).unwrap(), 4);
        old(1).run_here().unwrap();
    }
    assert_eq!(counter.get().unwrap(), 4);
    assert_eq!(library::Counter { value: 1 }.local(), 1);
    assert_eq!(sum(1, 2).run_here().unwrap(), 2);
    assert_eq!(Shared::new(one::Same).unwrap().which().unwrap(), 1);
    assert_eq!(Shared::new(two::Same).unwrap().which().unwrap(), 2);
    Shared::new(Quiet).unwrap().delete().unwrap();
}
