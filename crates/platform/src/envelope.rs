//! Bytes as the JSON documents that Lambda takes for events and results:
//! `{"crucial":1,"payload":"<base64>"}`.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// The version of the envelope.
const VERSION: u32 = 1;

#[derive(Deserialize)]
struct Envelope<'a> {
    crucial: u32,
    #[serde(borrow)]
    payload: Cow<'a, str>,
}

/// Wraps bytes.
pub(crate) fn wrap(payload: &[u8]) -> Vec<u8> {
    // Written without serde, since payloads can be large: base64 needs no escapes, so nothing is copied twice.
    let mut document = String::with_capacity(wrapped_len_max(payload.len()));
    document.push_str("{\"crucial\":");
    document.push_str(&VERSION.to_string());
    document.push_str(",\"payload\":\"");
    STANDARD.encode_string(payload, &mut document);
    document.push_str("\"}");
    document.into_bytes()
}

/// Unwraps the bytes of an envelope.
pub(crate) fn unwrap(document: &[u8]) -> Result<Vec<u8>, String> {
    let envelope: Envelope<'_> =
        serde_json::from_slice(document).map_err(|error| format!("malformed envelope: {error}"))?;
    if envelope.crucial != VERSION {
        return Err(format!(
            "the envelope has version {}, expected {VERSION}: client and worker must be the same program",
            envelope.crucial
        ));
    }
    STANDARD
        .decode(envelope.payload.as_bytes())
        .map_err(|error| format!("the envelope's payload is not valid base64: {error}"))
}

/// Largest size of a document that wraps this number of bytes.
pub(crate) fn wrapped_len_max(payload: usize) -> usize {
    payload.div_ceil(3) * 4 + 64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn unwrap_reverts_wrap(payload: Vec<u8>) {
            let document = wrap(&payload);
            prop_assert!(document.len() <= wrapped_len_max(payload.len()));
            prop_assert_eq!(unwrap(&document).unwrap(), payload);
        }

        #[test]
        fn garbage_is_refused(document: Vec<u8>) {
            prop_assert!(unwrap(&document).is_err());
        }
    }

    #[test]
    fn the_envelope_is_the_documented_json() {
        assert_eq!(wrap(b"abc"), br#"{"crucial":1,"payload":"YWJj"}"#);
        let spaced = br#" { "payload" : "YW\u004aj", "more": [], "crucial" : 1 } "#;
        assert_eq!(unwrap(spaced).as_deref(), Ok(&b"abc"[..]));
    }

    #[test]
    fn another_version_is_refused() {
        let error = unwrap(br#"{"crucial":2,"payload":""}"#).unwrap_err();
        assert!(error.contains("version 2"), "{error}");
    }
}
