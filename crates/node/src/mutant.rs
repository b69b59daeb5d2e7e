//! Bugs that tests plant, to be found. A build without the feature `mutants` has none of them.

/// Declares an enum of bugs, of which each thread can have one planted.
macro_rules! mutants {
    (
        $(#[$of_enum:meta])*
        pub enum $name:ident {
            $($(#[$of_bug:meta])* $bug:ident,)*
        }
    ) => {
        $(#[$of_enum])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$of_bug])* $bug,)*
        }

        #[cfg(feature = "mutants")]
        mod planted {
            use super::$name;
            use std::cell::Cell;

            thread_local! {
                static PLANTED: Cell<Option<$name>> = const { Cell::new(None) };
            }

            impl $name {
                /// All bugs that can be planted.
                pub const ALL: [$name; [$($name::$bug),*].len()] = [$($name::$bug),*];

                /// Whether this bug is planted in this thread.
                pub(crate) fn is_planted(self) -> bool {
                    PLANTED.get() == Some(self)
                }

                /// Plants a bug in this thread, or none.
                pub fn plant(mutant: Option<$name>) {
                    PLANTED.set(mutant);
                }
            }
        }

        #[cfg(not(feature = "mutants"))]
        impl $name {
            pub(crate) fn is_planted(self) -> bool {
                let _ = self;
                false
            }
        }
    };
}

pub(crate) use mutants;
