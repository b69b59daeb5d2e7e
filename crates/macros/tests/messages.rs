//! The macros: what compiles, and what the user is told about what does not.

#[test]
fn messages_point_at_the_users_token() {
    trybuild::TestCases::new().compile_fail("tests/ui/fail/*.rs");
}

#[test]
fn shapes_that_the_docs_promise() {
    trybuild::TestCases::new().pass("tests/ui/pass/*.rs");
}
