//! What the user is told about what does not compile.

#[test]
fn messages_point_at_the_users_token() {
    trybuild::TestCases::new().compile_fail("tests/fail/*.rs");
}
