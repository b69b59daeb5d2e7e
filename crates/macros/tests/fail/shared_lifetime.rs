use crucial::shared;
use serde::Serialize;

#[derive(Serialize)]
struct Thing<'a> {
    text: &'a str,
}

#[shared]
impl<'a> Thing<'a> {
    fn len(&self) -> usize {
        self.text.len()
    }
}

fn main() {}
