//! Lists against `Vec<T>`, blobs against `Vec<u8>`.

use crucial_object::collections::{Blob, ByteBuf, List};
use crucial_object::{Error, Result, Shared};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::check;

/// What an index out of bounds gives.
fn out_of_bounds<T>(index: u64, len: usize) -> Result<T> {
    Err(Error::OutOfBounds {
        index,
        len: len as u64,
    })
}

/// Positions within and outside of what is short.
fn position() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0..20u64, 1 => Just(u64::MAX), 1 => any::<u64>()]
}

fn up_to(index: u64, len: usize) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX).min(len)
}

type Item = Option<String>;

#[derive(Clone, Debug)]
enum OnList {
    Push(Item),
    Pop,
    Get(u64),
    Set(u64, Item),
    Insert(u64, Item),
    Remove(u64),
    RemoveItem(Item),
    Position(Item),
    Truncate(u64),
    Extend(Vec<Item>),
    Range(u64, u64),
    Clear,
}

fn on_list() -> impl Strategy<Value = OnList> {
    use OnList::*;
    let item = || prop::option::of("[ab✓]{0,2}");
    prop_oneof![
        6 => item().prop_map(Push),
        1 => Just(Pop),
        2 => position().prop_map(Get),
        2 => (position(), item()).prop_map(|(at, item)| Set(at, item)),
        2 => (position(), item()).prop_map(|(at, item)| Insert(at, item)),
        2 => position().prop_map(Remove),
        2 => item().prop_map(RemoveItem),
        2 => item().prop_map(Position),
        1 => position().prop_map(Truncate),
        2 => vec(item(), 0..4).prop_map(Extend),
        2 => (position(), position()).prop_map(|(start, count)| Range(start, count)),
        1 => Just(Clear),
    ]
}

#[test]
fn a_list_is_a_vec() {
    check(on_list(), |operations| {
        use OnList::*;
        let mut model: Vec<Item> = vec![None, Some("start".to_owned())];
        let list = Shared::new(List::from(model.clone()))?;
        for operation in operations {
            let len = model.len();
            match operation {
                Push(item) => {
                    list.push(item.clone())?;
                    model.push(item);
                }
                Pop => assert_eq!(list.pop()?, model.pop()),
                Get(at) => assert_eq!(list.get(at)?, model.get(up_to(at, len)).cloned()),
                Set(at, item) if at < len as u64 => {
                    let old = std::mem::replace(&mut model[at as usize], item.clone());
                    assert_eq!(list.set(at, item)?, old);
                }
                Set(at, item) => assert_eq!(list.set(at, item), out_of_bounds(at, len)),
                Insert(at, item) if at <= len as u64 => {
                    list.insert(at, item.clone())?;
                    model.insert(at as usize, item);
                }
                Insert(at, item) => {
                    assert_eq!(list.insert(at, item), out_of_bounds(at, len));
                }
                Remove(at) if at < len as u64 => {
                    assert_eq!(list.remove(at)?, model.remove(at as usize));
                }
                Remove(at) => assert_eq!(list.remove(at), out_of_bounds(at, len)),
                RemoveItem(item) => {
                    let at = model.iter().position(|other| *other == item);
                    assert_eq!(list.remove_item(&item)?, at.is_some());
                    at.map(|at| model.remove(at));
                }
                Position(item) => {
                    let at = model.iter().position(|other| *other == item);
                    assert_eq!(list.position(&item)?, at.map(|at| at as u64));
                    assert_eq!(list.contains(&item)?, model.contains(&item));
                }
                Truncate(to) => {
                    list.truncate(to)?;
                    model.truncate(up_to(to, len));
                }
                Extend(items) => {
                    list.extend(items.clone())?;
                    model.extend(items);
                }
                Range(start, count) => {
                    let range = &model[up_to(start, len)..];
                    assert_eq!(
                        list.range(start, count)?,
                        range[..up_to(count, range.len())]
                    );
                }
                Clear => {
                    list.clear()?;
                    model.clear();
                }
            }
            assert_eq!(list.to_vec()?, model);
            assert_eq!(
                (list.len()?, list.is_empty()?),
                (model.len() as u64, model.is_empty())
            );
        }
        Ok(())
    });
}

#[derive(Clone, Debug)]
enum OnBlob {
    Set(Vec<u8>),
    ReadAt(u64, u64),
    WriteAt(u64, Vec<u8>),
    Append(Vec<u8>),
    Truncate(u64),
}

#[test]
fn a_blob_is_a_vec_of_bytes() {
    use OnBlob::*;
    let bytes = || vec(any::<u8>(), 0..12);
    let operation = prop_oneof![
        1 => bytes().prop_map(Set),
        3 => (position(), position()).prop_map(|(at, count)| ReadAt(at, count)),
        3 => (position(), bytes()).prop_map(|(at, bytes)| WriteAt(at, bytes)),
        3 => bytes().prop_map(Append),
        1 => position().prop_map(Truncate),
    ];
    check(operation, |operations| {
        let mut model = b"start".to_vec();
        let blob = Shared::new(Blob::new(model.clone()))?;
        for operation in operations {
            let len = model.len();
            match operation {
                Set(bytes) => {
                    blob.set(ByteBuf::from(bytes.clone()))?;
                    model = bytes;
                }
                ReadAt(at, count) => {
                    let rest = &model[up_to(at, len)..];
                    assert_eq!(*blob.read_at(at, count)?, rest[..up_to(count, rest.len())]);
                }
                WriteAt(at, bytes) if at <= len as u64 => {
                    blob.write_at(at, ByteBuf::from(bytes.clone()))?;
                    let (start, end) = (at as usize, at as usize + bytes.len());
                    model.splice(start..end.min(len), bytes);
                }
                WriteAt(at, bytes) => {
                    let refused = blob.write_at(at, ByteBuf::from(bytes));
                    assert_eq!(refused, out_of_bounds(at, len));
                }
                Append(bytes) => {
                    assert_eq!(blob.append(ByteBuf::from(bytes.clone()))?, len as u64);
                    model.extend(bytes);
                }
                Truncate(to) => {
                    blob.truncate(to)?;
                    model.truncate(up_to(to, len));
                }
            }
            assert_eq!(*blob.get()?, model);
            assert_eq!(
                (blob.len()?, blob.is_empty()?),
                (model.len() as u64, model.is_empty())
            );
        }
        Ok(())
    });
}
