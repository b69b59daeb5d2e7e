//! The encoding of sort keys: bytes that compare as the values do.
//!
//! It is memcomparable's. What reads it is written here, because the crate's own reader says of itself that it is
//! human-readable, which its writer is not (so that an `IpAddr` did not come back), knows no borrowed strings,
//! and panics where its input is too short.

use memcomparable::{Error, Result};
use serde::de::value::U32Deserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};
use serde::{Serialize, forward_to_deserialize_any};

use crate::panics::catch;

/// Encodes a key that can be read back.
pub(crate) fn write<K: Serialize + DeserializeOwned>(key: &K) -> crate::Result<Vec<u8>> {
    let bytes = write_unchecked(key)?;
    // A form that depends on its reader (an untagged enum, a field that is left out) is found out here, and
    // not when the key is in the map.
    match read::<K>(&bytes).and_then(|read| write_unchecked(&read)) {
        Ok(again) if again == bytes => Ok(bytes),
        Ok(_) => Err(refused::<K>("it comes back as another key".to_owned())),
        Err(crate::Error::Encoding { detail, .. }) => {
            Err(refused::<K>(format!("it could not be read back: {detail}")))
        }
        Err(error) => Err(error),
    }
}

fn write_unchecked<K: Serialize>(key: &K) -> crate::Result<Vec<u8>> {
    // The encoder panics where an enum is too long.
    match catch(|| memcomparable::to_vec(key)) {
        Ok(result) => result.map_err(|error| refused::<K>(error.to_string())),
        Err(panic) => Err(refused::<K>(panic.message)),
    }
}

fn refused<K>(detail: String) -> crate::Error {
    let what = format!("{} as a sort key", std::any::type_name::<K>());
    crate::Error::encoding(what, detail)
}

/// Decodes a key.
pub(crate) fn read<K: DeserializeOwned>(bytes: &[u8]) -> crate::Result<K> {
    whole(bytes).map_err(|error| refused::<K>(error.to_string()))
}

fn whole<K: DeserializeOwned>(bytes: &[u8]) -> Result<K> {
    let mut reader = Reader { rest: bytes };
    let key = K::deserialize(&mut reader)?;
    if reader.rest.is_empty() {
        Ok(key)
    } else {
        Err(Error::TrailingCharacters)
    }
}

/// Strings and byte strings come in groups of this size.
const GROUP_BYTES: usize = 8;

/// The mark of a group that is full, and not the last.
const GROUP_GOES_ON: u8 = 9;

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Error::Eof)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8> {
        self.take().map(|[byte]| byte)
    }

    fn bytes(&mut self) -> Result<Vec<u8>> {
        match self.byte()? {
            0 => return Ok(Vec::new()),
            1 => {}
            other => return Err(Error::InvalidBytesEncoding(other)),
        }
        let mut bytes = Vec::new();
        loop {
            let group: [u8; GROUP_BYTES] = self.take()?;
            match self.byte()? {
                GROUP_GOES_ON => bytes.extend_from_slice(&group),
                length @ 1..GROUP_GOES_ON => {
                    bytes.extend_from_slice(&group[..length.into()]);
                    return Ok(bytes);
                }
                other => return Err(Error::InvalidBytesEncoding(other)),
            }
        }
    }
}

/// Numbers are big-endian, signed ones with their sign flipped.
macro_rules! integers {
    ($($method:ident $visit:ident $integer:ident $flip:expr;)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            visitor.$visit($integer::from_be_bytes(self.take()?) ^ $flip)
        }
    )+};
}

/// Floating-point numbers too; negative ones have all bits flipped.
macro_rules! floats {
    ($($method:ident $visit:ident $float:ident $bits:ident;)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            const SIGN: $bits = 1 << ($bits::BITS - 1);
            let bits = $bits::from_be_bytes(self.take()?);
            let bits = if bits & SIGN == 0 { !bits } else { bits ^ SIGN };
            visitor.$visit($float::from_bits(bits))
        }
    )+};
}

impl<'de> de::Deserializer<'de> for &mut Reader<'_> {
    type Error = Error;

    fn is_human_readable(&self) -> bool {
        false
    }

    integers! {
        deserialize_u8 visit_u8 u8 0;
        deserialize_u16 visit_u16 u16 0;
        deserialize_u32 visit_u32 u32 0;
        deserialize_u64 visit_u64 u64 0;
        deserialize_u128 visit_u128 u128 0;
        deserialize_i8 visit_i8 i8 i8::MIN;
        deserialize_i16 visit_i16 i16 i16::MIN;
        deserialize_i32 visit_i32 i32 i32::MIN;
        deserialize_i64 visit_i64 i64 i64::MIN;
        deserialize_i128 visit_i128 i128 i128::MIN;
    }

    floats! {
        deserialize_f32 visit_f32 f32 u32;
        deserialize_f64 visit_f64 f64 u64;
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.byte()? {
            0 => visitor.visit_bool(false),
            1 => visitor.visit_bool(true),
            other => Err(Error::InvalidBoolEncoding(other)),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let code = u32::from_be_bytes(self.take()?);
        visitor.visit_char(char::from_u32(code).ok_or(Error::InvalidCharEncoding(code))?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_string(String::from_utf8(self.bytes()?)?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_byte_buf(self.bytes()?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.byte()? {
            0 => visitor.visit_none(),
            1 => visitor.visit_some(self),
            other => Err(Error::InvalidTagEncoding(other.into())),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_seq(Sequence(self))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value> {
        visitor.visit_seq(Tuple { reader: self, len })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_enum(self)
    }

    /// The bytes do not say what they are.
    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value> {
        Err(Error::NotSupported(
            "a map, or what is told by its form (an untagged enum)",
        ))
    }

    forward_to_deserialize_any! { map identifier ignored_any }
}

/// Each item is announced by 1, the end by 0.
struct Sequence<'r, 'a>(&'r mut Reader<'a>);

impl<'de> de::SeqAccess<'de> for Sequence<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        match self.0.byte()? {
            0 => Ok(None),
            1 => seed.deserialize(&mut *self.0).map(Some),
            other => Err(Error::InvalidSeqEncoding(other)),
        }
    }
}

struct Tuple<'r, 'a> {
    reader: &'r mut Reader<'a>,
    len: usize,
}

impl<'de> de::SeqAccess<'de> for Tuple<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        match self.len.checked_sub(1) {
            None => Ok(None),
            Some(left) => {
                self.len = left;
                seed.deserialize(&mut *self.reader).map(Some)
            }
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.len)
    }
}

impl<'de> de::EnumAccess<'de> for &mut Reader<'_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self)> {
        let index: U32Deserializer<Error> = u32::from(self.byte()?).into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for &mut Reader<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<()> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value> {
        de::Deserializer::deserialize_tuple(self, len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        de::Deserializer::deserialize_tuple(self, fields.len(), visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../docs/protocol.md");

    /// Checks a row of the page, which has the value as Python writes it.
    fn check<K: Serialize + DeserializeOwned>(type_text: &str, value: &str, key: K) {
        let bytes = write(&key).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let row = format!("| `{type_text}` | `{value}` | `{hex}` |");
        assert!(PAGE.contains(&row), "docs/protocol.md has no row {row}");
    }

    #[test]
    fn the_page_shows_how_sort_keys_are_encoded() {
        check("bool", "True", true);
        check("u8", "7", 7u8);
        check("u16", "300", 300u16);
        check("i8", "-1", -1i8);
        check("i64", "-300", -300i64);
        check("i64", "300", 300i64);
        check("f64", "1.5", 1.5f64);
        check("f64", "-1.5", -1.5f64);
        check("f32", "0.0", -0.0f32);
        check("f64", "nan", -f64::NAN);
        check("String", "''", String::new());
        check("String", "'ab'", "ab".to_owned());
        check("String", "'abcdefgh'", "abcdefgh".to_owned());
        check("String", "'abcdefghi'", "abcdefghi".to_owned());
        check("Option<u8>", "None", None::<u8>);
        check("Option<u8>", "5", Some(5u8));
        check("(u8, String)", "(7, 'ab')", (7u8, "ab".to_owned()));
        check("Vec<u8>", "[7, 8]", vec![7u8, 8]);
    }
}
