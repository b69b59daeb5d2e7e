use crucial::cloud;

#[cloud]
fn work(out: &mut Vec<u8>) {
    out.push(1);
}

fn main() {}
