//! A counter that can now and then not be encoded, or not be decoded, at a server.

use std::cell::Cell;

use crucial_object::shared;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

thread_local! {
    static WEAKNESS: Cell<Weakness> = const { Cell::new(Weakness { encodes: true, decodes: true }) };
}

/// What the server whose code runs now can do with a [`Brittle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weakness {
    pub encodes: bool,
    pub decodes: bool,
}

impl Weakness {
    pub const NONE: Weakness = Weakness {
        encodes: true,
        decodes: true,
    };

    /// Runs code of a server that has this weakness.
    pub fn during<T>(self, act: impl FnOnce() -> T) -> T {
        WEAKNESS.set(self);
        let done = act();
        WEAKNESS.set(Weakness::NONE);
        done
    }
}

/// A counter, as the library's, of a type that fails at some servers for some time.
pub struct Brittle {
    value: i64,
}

#[shared(crate = crucial_object)]
impl Brittle {
    fn fetch_add(&mut self, more: i64) -> i64 {
        let before = self.value;
        self.value += more;
        before
    }

    fn load(&self) -> i64 {
        self.value
    }
}

impl Serialize for Brittle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match WEAKNESS.get().encodes {
            true => self.value.serialize(serializer),
            false => Err(S::Error::custom("the server is weak")),
        }
    }
}

impl<'de> Deserialize<'de> for Brittle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Brittle, D::Error> {
        let value = i64::deserialize(deserializer)?;
        match WEAKNESS.get().decodes {
            true => Ok(Brittle { value }),
            false => Err(D::Error::custom("the server is weak")),
        }
    }
}
