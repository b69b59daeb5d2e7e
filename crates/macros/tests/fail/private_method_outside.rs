mod inner {
    use crucial::shared;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    pub struct Thing;

    #[shared]
    impl Thing {
        fn secret(&self) {}
    }
}

fn main() {
    crucial::Shared::new(inner::Thing).unwrap().secret().unwrap();
}
