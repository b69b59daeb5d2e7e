use crucial::cloud;

#[cloud]
fn work(name: Option<&str>) -> usize {
    name.map_or(0, str::len)
}

fn main() {}
