use crucial::std;
use std::thread;

fn main() {
    let n = 5;
    thread::spawn(move || n + 1);
}
