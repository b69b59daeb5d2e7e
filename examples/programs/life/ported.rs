//! Conway's game of life: each thread has a band of rows, and a barrier separates the generations.

use crucial::std;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

const SIZE: usize = 24;
const BANDS: usize = 3;
const GENERATIONS: usize = 10;

type Row = [bool; SIZE];

#[derive(serde::Serialize, serde::Deserialize)]
struct World {
    rows: Vec<Mutex<Row>>,
    barrier: Barrier,
}

impl World {
    fn row(&self, row: usize) -> Row {
        *self.rows[row % SIZE].lock().unwrap()
    }
}

#[crucial::cloud]
fn live(world: Arc<World>, band: usize) -> usize {
    let rows = band * SIZE / BANDS..(band + 1) * SIZE / BANDS;
    let mut led = 0;
    for _ in 0..GENERATIONS {
        let around: Vec<Row> = (rows.start + SIZE - 1..rows.end + SIZE + 1)
            .map(|row| world.row(row))
            .collect();
        // Nobody writes before all have read.
        world.barrier.wait();
        for (index, row) in rows.clone().enumerate() {
            let alive = |x: usize| {
                let near = |y: usize, x: usize| around[index + y][(x + SIZE) % SIZE] as usize;
                let neighbours: usize = (0..3)
                    .flat_map(|y| [x + SIZE - 1, x, x + 1].map(|x| (y, x % SIZE)))
                    .filter(|&(y, column)| (y, column) != (1, x))
                    .map(|(y, x)| near(y, x))
                    .sum();
                neighbours == 3 || (neighbours == 2 && around[index + 1][x])
            };
            *world.rows[row].lock().unwrap() = std::array::from_fn(alive);
        }
        if world.barrier.wait().is_leader() {
            led += 1;
        }
    }
    led
}

#[crucial::main]
fn main() {
    let mut rows = vec![[false; SIZE]; SIZE];
    // A glider, and a blinker.
    for (x, y) in [
        (1, 0),
        (2, 1),
        (0, 2),
        (1, 2),
        (2, 2),
        (12, 15),
        (13, 15),
        (14, 15),
    ] {
        rows[y][x] = true;
    }
    let world = Arc::new(World {
        rows: rows.into_iter().map(Mutex::new).collect(),
        barrier: Barrier::new(BANDS),
    });
    let bands: Vec<_> = (0..BANDS)
        .map(|band| {
            let world = world.clone();
            thread::spawn(move || live(world, band))
        })
        .collect();
    let led: usize = bands.into_iter().map(|band| band.join().unwrap()).sum();
    for row in &world.rows {
        let row = row.lock().unwrap();
        println!(
            "{}",
            row.map(|alive| if alive { '#' } else { '.' })
                .iter()
                .collect::<String>()
        );
    }
    println!("{led} generations");
}
