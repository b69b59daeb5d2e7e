use crucial::{Result, Shared, sync::AtomicI64};

fn main() -> Result<()> {
    let hits = Shared::new(AtomicI64::new(0))?;
    hits.fetch_add(1)?;
    let total: i64 = hits.load() + 1;
    println!("{total}");
    Ok(())
}
