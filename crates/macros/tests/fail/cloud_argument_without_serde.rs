use crucial::cloud;

#[cloud]
fn work(file: std::fs::File) {
    drop(file);
}

fn main() {}
