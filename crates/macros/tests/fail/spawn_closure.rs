fn main() {
    let n = 7;
    crucial::thread::spawn(move || n + 1);
}
