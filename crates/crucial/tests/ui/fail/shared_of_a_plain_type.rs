use crucial::Shared;

fn main() {
    let values = Shared::new(vec![1, 2, 3]);
    drop(values);
}
