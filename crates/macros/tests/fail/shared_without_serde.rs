use crucial::shared;

struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    fn get(&self) -> u64 {
        self.value
    }
}

fn main() {}

// Errors: 2
