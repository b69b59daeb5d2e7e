use crucial::{Shared, cloud, sync::AtomicI64, thread};

#[cloud]
fn work(hits: Shared<AtomicI64>) -> crucial::Result<()> {
    hits.fetch_add(1).map(drop)
}

fn main() {
    // The object itself, instead of a handle.
    thread::spawn(work(AtomicI64::new(0)));
}
