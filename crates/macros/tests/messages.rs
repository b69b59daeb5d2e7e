//! What the user is told about what does not compile.

use std::path::Path;

/// Sources with as many errors as mistakes: each says so in a comment, and all others have one error.
const MANY: &str = "// Errors: ";

#[test]
fn messages_point_at_the_users_token() {
    trybuild::TestCases::new().compile_fail("tests/fail/*.rs");
}

#[test]
fn one_mistake_is_one_error() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fail");
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let source = entry.unwrap().path();
        if source.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&source).unwrap();
        let said = text.lines().find_map(|line| line.strip_prefix(MANY));
        let expected: usize = said.map_or(1, |said| said.parse().unwrap());
        let messages = std::fs::read_to_string(source.with_extension("stderr")).unwrap();
        let is_error = |line: &&str| line.starts_with("error: ") || line.starts_with("error[");
        let found = messages.lines().filter(is_error).count();
        if found != expected {
            wrong.push(format!(
                "{}: {found} errors, {expected} expected",
                source.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
