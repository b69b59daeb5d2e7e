//! Texts, as editors and other systems write them.

/// A text without the mark of its encoding, with which some programs begin a file.
///
/// # Errors
///
/// Advice about a text of another encoding than UTF-8.
pub fn unmarked(bytes: &[u8]) -> Result<&[u8], String> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(
            "is text in UTF-16, and must be in UTF-8: convert it, with `iconv -f UTF-16 -t UTF-8`"
                .to_owned(),
        );
    }
    Ok(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))
}
