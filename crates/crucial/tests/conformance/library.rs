//! B: the collections of the library, and its logger, used by cloud threads in processes of their own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crucial::collections::{List, Map, Matrix, Merge, OrderedMap, Queue, Set};
use crucial::sync::Reduction;
use crucial::{Error, Logger, Shared, cloud, thread};
use libtest_mimic::Trial;

use crate::Outcome;
use crate::program::Program;
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        b07_a_list_is_a_list_and_an_index_outside_is_an_error,
        b08_a_set_says_what_is_new,
        b09_a_map_of_10_000_entries_is_read_in_pages,
        b10_word_counts_of_55_tasks_are_the_sequential_ones,
        b10_values_are_merged_in_one_call,
        b11_an_ordered_map_knows_first_last_ranges_and_top,
        b12_matrices_are_added_and_reduced_where_they_are,
        b13_lines_of_threads_arrive_with_name_and_time,
        b13_a_logger_prints_at_the_client,
        b14_what_10_clients_push_they_pop,
    ]
}

/// Runs tasks that return nothing, and sees that all succeed.
pub fn run_all<I>(
    inputs: impl IntoIterator<Item = I>,
    task: impl FnMut(I) -> crucial::Task<crucial::Result<()>>,
) -> Outcome {
    for result in thread::map(inputs, task)? {
        result?;
    }
    Ok(())
}

#[cloud]
fn fill_list(task: u32, list: Shared<List<(u32, String)>>) -> crucial::Result<()> {
    for n in 0..20 {
        list.push((task, n.to_string()))?;
    }
    list.extend((20..40).map(|n| (task, n.to_string())).collect())
}

fn b07_a_list_is_a_list_and_an_index_outside_is_an_error() -> Outcome {
    let list = Shared::new(List::new())?;
    run_all(0..4, |task| fill_list(task, list.clone()))?;
    let items = list.to_vec()?;
    assert_eq!(items.len(), 160);
    for task in 0..4 {
        // Each thread's items are in its order.
        let own = items
            .iter()
            .filter(|(by, _)| *by == task)
            .map(|(_, text)| text.clone());
        assert!(own.eq((0..40).map(|n: u32| n.to_string())));
    }
    let item = |n: u32| (9, n.to_string());
    list.clear()?;
    list.extend(vec![item(0), item(1), item(1), item(3)])?;
    list.insert(4, item(4))?;
    assert_eq!(list.set(1, item(7))?, item(1));
    assert_eq!(list.remove(0)?, item(0));
    assert!(list.remove_item(&item(3))?);
    assert!(!list.remove_item(&item(3))?);
    assert_eq!(list.to_vec()?, [item(7), item(1), item(4)]);
    assert_eq!(
        (list.contains(&item(4))?, list.position(&item(4))?),
        (true, Some(2))
    );
    assert_eq!(list.range(1, 9)?, [item(1), item(4)]);
    assert_eq!((list.get(0)?, list.get(3)?), (Some(item(7)), None));
    let outside = Error::OutOfBounds { index: 5, len: 3 };
    assert_eq!(list.set(5, item(0)), Err(outside.clone()));
    assert_eq!(list.remove(5), Err(outside.clone()));
    assert_eq!(list.insert(5, item(0)), Err(outside));
    assert_eq!(list.len()?, 3);
    Ok(())
}

#[cloud]
fn insert_numbers(set: Shared<Set<String>>) -> crucial::Result<u64> {
    let mut new = 0;
    for n in 0..500 {
        new += u64::from(set.insert(n.to_string())?);
    }
    Ok(new + set.extend((400..1000).map(|n| n.to_string()).collect())?)
}

fn b08_a_set_says_what_is_new() -> Outcome {
    let set = Shared::new(Set::new())?;
    let new = thread::map(0..3, |_| insert_numbers(set.clone()))?;
    let new: u64 = new.into_iter().sum::<crucial::Result<u64>>()?;
    assert_eq!((new, set.len()?), (1000, 1000));
    let texts = ["1", "999", "1000"].map(str::to_owned);
    assert_eq!(set.contains_each(&texts)?, [true, true, false]);
    assert_eq!(set.remove_all(&texts)?, 2);
    assert!(!set.remove(&texts[0])?);
    assert!(!set.contains(&texts[0])?);
    assert_eq!(set.to_vec()?.len(), 998);
    Ok(())
}

#[cloud]
fn fill_map(part: u32, map: Shared<Map<u32, String>>) -> crucial::Result<()> {
    map.extend(
        (0..10_000)
            .filter(|n| n % 4 == part)
            .map(|n| (n, n.to_string()))
            .collect(),
    )
}

fn b09_a_map_of_10_000_entries_is_read_in_pages() -> Outcome {
    let map = Shared::new(Map::new())?;
    run_all(0..4, |part| fill_map(part, map.clone()))?;
    let mut all = BTreeMap::new();
    let mut last = None;
    loop {
        let page = map.page(last, 300)?;
        assert!(page.len() <= 300);
        let Some((key, _)) = page.last() else { break };
        last = Some(*key);
        for (key, value) in page {
            assert_eq!(all.insert(key, value), None, "{key} comes twice");
        }
    }
    assert!(all.into_iter().eq((0..10_000).map(|n| (n, n.to_string()))));
    let text = |text: &str| text.to_owned();
    assert_eq!(map.insert(7, text("new"))?, Some(text("7")));
    assert_eq!(map.get_or_insert(7, text("newer"))?, "new");
    assert!(!map.compare_and_set(7, Some(text("7")), text("x"))?);
    assert!(map.compare_and_set(7, Some(text("new")), text("newest"))?);
    assert_eq!(
        (map.remove(&7)?, map.get(&7)?, map.contains_key(&7)?),
        (Some(text("newest")), None, false)
    );
    assert_eq!(
        (map.keys()?.len(), map.values()?.len(), map.len()?),
        (9999, 9999, 9999)
    );
    Ok(())
}

const WORDS: [&str; 7] = ["wine", "wind", "water", "stone", "ash", "", "æther"];

/// The words of one document.
fn document(number: u64) -> impl Iterator<Item = String> {
    let mut random = number;
    (0..500).map(move |_| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        format!(
            "{}{}",
            WORDS[(random >> 33) as usize % 7],
            (random >> 50) % 5
        )
    })
}

fn count_words(words: impl Iterator<Item = String>) -> HashMap<String, u64> {
    let mut counts = HashMap::new();
    words.for_each(|word| *counts.entry(word).or_default() += 1);
    counts
}

#[cloud]
fn merge_counts(number: u64, counts: Shared<Map<String, u64>>) -> crucial::Result<()> {
    let own = count_words(document(number));
    counts.merge_all(own.into_iter().collect(), Merge::Sum)
}

fn b10_word_counts_of_55_tasks_are_the_sequential_ones() -> Outcome {
    let counts = Shared::new(Map::new())?;
    run_all(0..55, |number| merge_counts(number, counts.clone()))?;
    let sequential = count_words((0..55).flat_map(document));
    assert_eq!(HashMap::from_iter(counts.entries()?), sequential);
    let mut most: Vec<u64> = sequential.values().copied().collect();
    most.sort_unstable_by(|one, other| other.cmp(one));
    let top: Vec<u64> = counts.top(3)?.into_iter().map(|(_, count)| count).collect();
    assert_eq!(top, most[..3]);
    Ok(())
}

#[cloud]
fn merge_values(
    n: i64,
    numbers: Shared<Map<String, i64>>,
    texts: Shared<Map<u8, Vec<i64>>>,
) -> crucial::Result<()> {
    numbers.merge("sum".to_owned(), n, Merge::Sum)?;
    numbers.merge("max".to_owned(), n, Merge::Max)?;
    numbers.merge("min".to_owned(), n, Merge::Min)?;
    texts.merge(0, vec![n, -n], Merge::Append)?;
    Ok(())
}

fn b10_values_are_merged_in_one_call() -> Outcome {
    let (numbers, lists) = (Shared::new(Map::new())?, Shared::new(Map::new())?);
    run_all(1..=10, |n| merge_values(n, numbers.clone(), lists.clone()))?;
    let expected = [("sum", 55), ("max", 10), ("min", 1)].map(|(key, n)| (key.to_owned(), n));
    assert_eq!(BTreeMap::from_iter(numbers.entries()?), expected.into());
    let list = lists.get(&0)?.ok_or("no list")?;
    // Each pair as one, in any order.
    assert!(list.chunks(2).all(|pair| pair[0] == -pair[1]));
    assert_eq!(
        BTreeSet::from_iter(list),
        (-10..=10).filter(|n| *n != 0).collect()
    );
    // One that does not fit: none is merged.
    let entries = vec![("min".to_owned(), 5), ("sum".to_owned(), i64::MAX)];
    assert!(matches!(
        numbers.merge_all(entries, Merge::Sum),
        Err(Error::BadArguments { .. })
    ));
    assert_eq!(numbers.get(&"min".to_owned())?, Some(1));
    Ok(())
}

#[cloud]
fn fill_ordered(part: i32, map: Shared<OrderedMap<i32, String>>) -> crucial::Result<()> {
    for n in (-50..50).rev().filter(|n: &i32| n.rem_euclid(4) == part) {
        map.insert(n, n.to_string())?;
    }
    Ok(())
}

fn b11_an_ordered_map_knows_first_last_ranges_and_top() -> Outcome {
    let map = Shared::new(OrderedMap::new())?;
    run_all(0..4, |part| fill_ordered(part, map.clone()))?;
    let entry = |n: i32| (n, n.to_string());
    assert_eq!(
        (map.first()?, map.last()?),
        (Some(entry(-50)), Some(entry(49)))
    );
    assert_eq!(map.range(Some(-2), Some(2), 10)?, [-2, -1, 0, 1].map(entry));
    assert_eq!(map.range(None, Some(0), 2)?, [-50, -49].map(entry));
    assert_eq!(map.top(3)?, [49, 48, 47].map(entry));
    assert_eq!(map.pop_first()?, Some(entry(-50)));
    assert_eq!(map.page(Some(47), 10)?, [48, 49].map(entry));
    assert_eq!(map.len()?, 99);
    Ok(())
}

#[cloud]
fn vote(task: u32, matrix: Shared<Matrix>) -> crucial::Result<()> {
    for round in 0..10 {
        let values: Vec<f64> = (0..12)
            .map(|place| f64::from(task * 100 + round + place))
            .collect();
        matrix.add(&values)?;
        matrix.add_row(u64::from(task % 3), &[1.0, 0.0, 0.0, -1.0])?;
    }
    Ok(())
}

fn b12_matrices_are_added_and_reduced_where_they_are() -> Outcome {
    let matrix = Shared::new(Matrix::new(3, 4))?;
    run_all(0..6, |task| vote(task, matrix.clone()))?;
    // Per place: 10 · 100 · (0 + .. + 5), and 6 · (0 + .. + 9), and 60 times the place; whole numbers are exact.
    let place = |row: usize, column: usize| {
        15_270.0 + 60.0 * (row * 4 + column) as f64 + [20.0, 0.0, 0.0, -20.0][column]
    };
    for row in 0..3 {
        let expected = [0, 1, 2, 3].map(|column| place(row, column));
        assert_eq!(matrix.row(row as u64)?, expected);
        assert_eq!(matrix.get(row as u64, 2)?, expected[2]);
        assert_eq!(
            matrix.reduce_rows(Reduction::Sum)?[row],
            expected.iter().sum::<f64>()
        );
    }
    assert_eq!(matrix.reduce(Reduction::Min)?, Some(place(0, 0)));
    assert_eq!(
        matrix.reduce_columns(Reduction::Max)?,
        [0, 1, 2, 3].map(|column| place(2, column))
    );
    assert_eq!(
        matrix.get(3, 0),
        Err(Error::OutOfBounds { index: 3, len: 3 })
    );
    assert!(matches!(
        matrix.add(&[1.0; 11]),
        Err(Error::BadArguments { .. })
    ));
    Ok(())
}

#[cloud]
fn write_lines(count: u32, logger: Shared<Logger>) -> crucial::Result<()> {
    (0..count).try_for_each(|n| logger.log(format!("line {n}")))
}

fn b13_lines_of_threads_arrive_with_name_and_time() -> Outcome {
    let logger = Shared::new(Logger::new())?;
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = lines.clone();
    let follower = logger.follow(move |line| seen.lock().unwrap().push(line.clone()))?;
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let start = now()?;
    let names = ["ann", "bob", "eve"];
    let spawn = |name| {
        thread::Builder::new()
            .name(name)
            .spawn(write_lines(20, logger.clone()))
    };
    for writer in names.map(spawn) {
        writer?.join()??;
    }
    drop(follower);
    let (lines, end) = (lines.lock().unwrap(), now()?);
    assert!(lines.iter().map(|line| line.number).eq(0..60));
    for name in names {
        let own: Vec<_> = lines.iter().filter(|line| line.thread == name).collect();
        assert!(
            own.iter()
                .map(|line| line.text.clone())
                .eq((0..20).map(|n| format!("line {n}")))
        );
        assert!(own.is_sorted_by_key(|line| line.time));
        // The same machine, so the same clock.
        assert!(own.iter().all(|line| (start..=end).contains(&line.time)));
    }
    assert_eq!(logger.lines()?, *lines);
    Ok(())
}

/// Programs of these tests.
pub fn program(name: &str) -> Option<crucial::Result<()>> {
    (name == "print-log").then(|| {
        let logger = Shared::new(Logger::new())?;
        let printing = logger.print()?;
        let writer = thread::Builder::new()
            .name("writer")
            .spawn(write_lines(3, logger))?;
        writer.join()??;
        drop(printing);
        println!("end");
        Ok(())
    })
}

fn b13_a_logger_prints_at_the_client() -> Outcome {
    let output = Program::start("print-log", None)?.output()?;
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines.len(), 4, "{output}");
    for (number, line) in lines[..3].iter().enumerate() {
        let rest = line.strip_prefix("[writer] ").ok_or(output.clone())?;
        let (time, text) = rest.split_once(' ').ok_or(output.clone())?;
        assert_eq!(text, format!("line {number}"));
        // 12:34:56.789
        let digits = time
            .split([':', '.'])
            .map(|part| part.parse().map(Duration::from_secs));
        assert_eq!(
            (time.len(), digits.collect::<Result<Vec<_>, _>>()?.len()),
            (12, 4),
            "{output}"
        );
    }
    assert_eq!(lines[3], "end");
    Ok(())
}

#[cloud]
fn push_and_pop(client: u32, queue: Shared<Queue<(u32, u32)>>) -> crucial::Result<Vec<(u32, u32)>> {
    let mut popped = Vec::new();
    for n in 0..100 {
        queue.push((client, n))?;
        popped.push(queue.pop()?.ok_or("closed")?);
    }
    Ok(popped)
}

fn b14_what_10_clients_push_they_pop() -> Outcome {
    let queue = Shared::new(Queue::new(4))?;
    let popped = thread::map(0..10, |client| push_and_pop(client, queue.clone()))?;
    let popped = popped.into_iter().collect::<crucial::Result<Vec<_>>>()?;
    for own in &popped {
        for client in 0..10 {
            // First in, first out: what one client pushed is seen in its order.
            let pushed = own.iter().filter(|(by, _)| *by == client);
            assert!(pushed.is_sorted_by(|one, next| one.1 < next.1));
        }
    }
    let mut all = popped.concat();
    all.sort_unstable();
    assert!(
        all.into_iter()
            .eq((0..10).flat_map(|client| (0..100).map(move |n| (client, n))))
    );
    assert!(queue.is_empty()?);
    queue.close()?;
    assert_eq!(queue.pop()?, None);
    assert!(queue.push((0, 0)).is_err());
    Ok(())
}
