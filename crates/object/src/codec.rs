//! Values to bytes and back: postcard, and always the whole input.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::complete::{self, Complete, Flaw, Flaws};
use crate::explain::{ASKS, explain};
use crate::{Error, Result};

/// The memory of a parked call: its `#[ticket]`, encoded.
pub type Ticket = Option<Vec<u8>>;

/// Encodes `value`.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    encode_into(value, &mut out)?;
    Ok(out)
}

/// Appends the encoding of `value` to `out`.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    let flaws = Flaws::default();
    let value = Complete(value, &flaws);
    if let Err(error) = postcard::serialize_with_flavor(&value, Appended(out)) {
        out.truncate(start);
        let cause = match flaws.get() {
            Some(Flaw::Cell(name)) => format!(
                "a {name} is in it, which would travel as a copy, of which others see no change: put a `Shared<_>` handle of an \
                 object in its place, as of crucial::sync"
            ),
            Some(Flaw::LeftOut(name, field)) => format!(
                "{name} leaves its field {field:?} out, by #[serde(skip_serializing_if)]: the encoding has no names, and whoever \
                 decodes it would take other fields for it; remove the attribute"
            ),
            None => cause(error),
        };
        return Err(Error::encoding(std::any::type_name::<T>(), cause));
    }
    Ok(())
}

/// The cause of an error of the encoding, and what to do.
fn cause(error: postcard::Error) -> String {
    use postcard::Error as E;
    match error {
        E::WontImplement => ASKS.to_owned(),
        E::SerializeSeqLengthUnknown => {
            "it does not know its length before its end, as types with #[serde(flatten)]: carry a Vec or a map instead"
                .to_owned()
        }
        E::SerdeSerCustom => match complete::take_refusal() {
            Some(message) => format!("its own Serialize refuses it: {message}"),
            None => "its own Serialize refuses it".to_owned(),
        },
        // What is decoded has its explanation, and no other is an error of encoding into memory.
        _ => "the bytes are those of another type, or cut off".to_owned(),
    }
}

/// postcard's output, at the end of a vector.
struct Appended<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Appended<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Decodes a value that takes up all of `bytes`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    whole(bytes).map_err(|detail| Error::encoding(std::any::type_name::<T>(), detail))
}

fn whole<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!(
            "{} bytes are left over: they are those of another type",
            rest.len()
        )),
        Err(error) => Err(explain::<T>(bytes).unwrap_or_else(|| cause(error))),
    }
}

/// Decodes the arguments of `method`.
#[doc(hidden)]
pub fn decode_arguments<T: DeserializeOwned>(method: &str, bytes: &[u8]) -> Result<T> {
    whole(bytes).map_err(|detail| Error::BadArguments {
        what: method.to_owned(),
        detail,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn bytes_left_over_are_an_error() {
        let mut bytes = encode(&(1u32, "a")).unwrap();
        assert_eq!(decode::<(u32, String)>(&bytes).unwrap(), (1, "a".into()));
        bytes.push(0);
        assert!(decode::<(u32, String)>(&bytes).is_err());
        assert!(matches!(
            decode_arguments::<(u32, String)>("T::m", &bytes),
            Err(Error::BadArguments { .. })
        ));
    }

    #[derive(Serialize, serde::Deserialize, PartialEq, Debug, Default)]
    struct Skips {
        a: u8,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        b: Option<u8>,
        #[serde(skip)]
        never: u8,
        c: u8,
    }

    #[test]
    fn a_lock_or_cell_of_std_is_refused_wherever_it_is() {
        use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize};
        use std::sync::{Arc, Mutex, RwLock};
        #[derive(Serialize)]
        struct Deep<T>(Vec<Option<T>>, HashMap<u8, T>);
        #[derive(Serialize)]
        enum Either<T> {
            One { value: T },
        }

        fn refused<T: Serialize>(value: T, name: &str) {
            let error = encode(&value).unwrap_err().to_string();
            assert!(
                error.contains(name) && error.contains("`Shared<_>`"),
                "{error}"
            );
        }
        refused(Mutex::new(1), "Mutex<i32>");
        refused(Arc::new(Mutex::new(1)), "Arc<std::sync::");
        refused((1, "a", RwLock::new(1)), "RwLock<i32>");
        refused(
            Deep(vec![None, Some(AtomicUsize::new(1))], HashMap::new()),
            "Atomic",
        );
        refused(
            Deep(vec![], [(1, Box::new(AtomicBool::new(true)))].into()),
            "Atomic",
        );
        refused(
            Either::One {
                value: &AtomicU8::new(1),
            },
            "Atomic",
        );
        refused([std::cell::Cell::new(1)], "Cell<i32>");
        refused(
            Some(std::rc::Rc::new(std::cell::RefCell::new(1))),
            "RefCell<i32>",
        );
        // What is empty, and what only looks like one.
        #[derive(Serialize)]
        struct Cell(u8);
        encode(&Deep(vec![None, Some(Cell(1))], HashMap::new())).unwrap();
        encode(&(Arc::new(1), Box::new("a"), std::num::Wrapping(1))).unwrap();
    }

    #[test]
    fn a_value_that_leaves_a_field_out_is_refused_wherever_it_is() {
        let whole = || Skips {
            b: Some(2),
            ..Skips::default()
        };
        let bytes = encode(&vec![whole()]).unwrap();
        assert_eq!(decode::<Vec<Skips>>(&bytes).unwrap(), [whole()]);
        let nested = (1u8, Some(vec![Box::new(Skips::default())]));
        let error = encode(&nested).unwrap_err().to_string();
        assert!(
            error.contains("Skips leaves its field \"b\" out"),
            "{error}"
        );
    }

    #[test]
    fn equal_collections_without_an_order_have_equal_encodings() {
        let numbers = || 0..100u32;
        let map = || -> HashMap<String, HashSet<u32>> {
            let entry = |n: u32| (n.to_string(), numbers().map(|m| m * n).collect());
            numbers().map(entry).collect()
        };
        // Each map has an order of its own.
        assert!(map().keys().ne(map().keys()));
        let bytes = encode(&(map(), 1)).unwrap();
        for _ in 0..10 {
            assert_eq!(encode(&(map(), 1)).unwrap(), bytes);
        }
        assert_eq!(
            decode::<(HashMap<String, HashSet<u32>>, i32)>(&bytes).unwrap(),
            (map(), 1)
        );
        // Of others the order is theirs.
        assert_ne!(encode(&vec![1, 2]).unwrap(), encode(&vec![2, 1]).unwrap());
    }

    #[test]
    fn types_that_describe_themselves_are_refused_with_the_cause() {
        #[derive(Serialize, serde::Deserialize, Debug)]
        #[serde(untagged)]
        enum Untagged {
            Number(u8),
        }
        let bytes = encode(&Untagged::Number(1)).unwrap();
        let error = decode::<Untagged>(&bytes).unwrap_err().to_string();
        assert!(
            error.contains("untagged") && error.contains("String of JSON"),
            "{error}"
        );
        #[derive(Serialize)]
        struct Flat {
            #[serde(flatten)]
            inner: Skips,
        }
        let error = encode(&Flat {
            inner: Skips::default(),
        })
        .unwrap_err()
        .to_string();
        assert!(error.contains("flatten"), "{error}");
    }

    #[test]
    fn a_value_that_refuses_itself_says_why() {
        use std::os::unix::ffi::OsStringExt;
        let path = std::ffi::OsString::from_vec(b"caf\xe9".to_vec());
        let error = encode(&(1u8, Some(std::path::PathBuf::from(path)))).unwrap_err();
        let Error::Encoding { detail, .. } = &error else {
            panic!("{error}");
        };
        assert!(detail.contains("invalid UTF-8"), "{error}");
        // A later one has its own cause.
        let unknown = Vec::from_iter(0..3u8).into_iter().filter(|_| true);
        struct Unknown<I>(std::cell::RefCell<I>);
        impl<I: Iterator<Item = u8>> Serialize for Unknown<I> {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_seq(&mut *self.0.borrow_mut())
            }
        }
        let error = encode(&Unknown(unknown.into())).unwrap_err().to_string();
        assert!(error.contains("length"), "{error}");
    }

    #[test]
    fn a_failed_encoding_leaves_the_output_as_it_was() {
        struct Unsized;
        impl Serialize for Unsized {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_seq(None).map(|_| unreachable!())
            }
        }
        let mut out = vec![1, 2];
        assert!(encode_into(&(7u8, Unsized), &mut out).is_err());
        assert_eq!(out, [1, 2]);
    }
}
