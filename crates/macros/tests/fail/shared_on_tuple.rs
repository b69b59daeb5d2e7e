#[crucial::shared]
impl (u64, u64) {
    fn get(&self) -> u64 {
        self.0
    }
}

fn main() {}

// Errors: 2
