use crucial::{Result, Shared, cloud, shared, thread};

struct Point {
    x: f64,
}

struct Points {
    all: Vec<Point>,
}

#[shared]
impl Points {
    fn add(&mut self, point: Point) -> Option<Point> {
        self.all.push(point);
        self.all.pop()
    }

    fn all(&self) -> Vec<Point> {
        Vec::new()
    }
}

#[cloud]
fn work(points: Shared<Points>, x: f64) -> Result<()> {
    points.add(Point { x }).map(drop)
}

fn main() -> Result<()> {
    let points = Shared::new(Points { all: Vec::new() })?;
    let pending = points.deferred().all();
    let thread = thread::spawn(work(points.clone(), 1.0));
    for point in pending.wait()? {
        println!("{}", point.x);
    }
    thread.join()?
}

// Errors: 5
