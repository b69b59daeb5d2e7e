//! Primitives in a `static`: one object of the run each, named by the place in the executable, which is the same in all
//! processes of a build.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex};

use crucial_object::held;

/// A primitive in a static.
pub(crate) trait Static: Sync {
    /// Makes it the object of that name, with its present value if it is new.
    fn share(&self, key: &str);
}

/// The statics that were used before the first thread was spawned, and their keys.
static USED: Mutex<Vec<(&'static dyn Static, String)>> = Mutex::new(Vec::new());

/// Where the executable, with its data, lies in memory.
static IMAGE: LazyLock<Option<Range<usize>>> =
    LazyLock::new(|| image(&std::fs::read_to_string("/proc/self/maps").ok()?));

/// The first mappings of the same file, and the memory without a name that follows without a gap (data that begins as
/// zero).
fn image(maps: &str) -> Option<Range<usize>> {
    let mut image: Option<(Range<usize>, &str)> = None;
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (range, path) = (fields.next()?, fields.nth(4).unwrap_or(""));
        let (start, end) = range.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        match &mut image {
            None => image = Some((start..end, path)),
            Some((range, file)) if path == *file || (path.is_empty() && start == range.end) => {
                range.end = end;
            }
            Some(_) => break,
        }
    }
    image.map(|(range, _)| range)
}

/// The key of the static that a primitive is; `None` for other places.
pub(crate) fn key<T>(place: &T) -> Option<String> {
    let address = std::ptr::from_ref(place) as usize;
    let image = IMAGE.as_ref()?;
    let offset = image.contains(&address).then(|| address - image.start)?;
    Some(format!("static at {offset:#x}"))
}

/// What a primitive finds out about itself at its first use.
pub(crate) enum Place {
    /// A local one.
    Local,
    /// A static of a program that has cloud threads: one object of the run, with this key.
    Shared(String),
}

/// Looks where a local primitive stands. `seen` says that it was looked at before.
pub(crate) fn look<T: Static + 'static>(place: &T, seen: &AtomicBool) -> Place {
    if held::are_statics_shared() {
        return match key(place) {
            Some(key) => Place::Shared(key),
            None => Place::Local,
        };
    }
    if seen.load(Ordering::Relaxed) || seen.swap(true, Ordering::Relaxed) {
        return Place::Local;
    }
    let Some(key) = key(place) else {
        return Place::Local;
    };
    held::before_statics_are_shared(share_all);
    used().push((as_static(place), key.clone()));
    // Another thread may have shared them meanwhile, without this one.
    match held::are_statics_shared() {
        true => Place::Shared(key),
        false => Place::Local,
    }
}

/// Refuses a static whose values cannot be encoded, where it would be a silent copy.
///
/// # Panics
///
/// In a worker.
#[track_caller]
pub(crate) fn refuse_in_worker<T>(place: &T, what: &str) {
    if held::is_worker() && key(place).is_some() {
        panic!(
            "this {what} is a static, and each worker process would have one of its own: pass it to the cloud function \
             as an argument"
        );
    }
}

fn used() -> std::sync::MutexGuard<'static, Vec<(&'static dyn Static, String)>> {
    USED.lock().unwrap_or_else(|e| e.into_inner())
}

fn share_all() {
    let used = std::mem::take(&mut *used());
    for (place, key) in used {
        place.share(&key);
    }
}

#[expect(
    unsafe_code,
    reason = "the compiler does not know which references point into the executable"
)]
fn as_static<T: Static + 'static>(place: &T) -> &'static dyn Static {
    // SAFETY: the caller has found `place` in the executable's image, which stays for as long as the process. What lies
    // there is a static: it is neither moved nor dropped, and `T: Sync` lets all threads have it.
    unsafe { &*std::ptr::from_ref(place) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_ends_where_another_file_or_a_gap_begins() {
        let maps = "1000-2000 r--p 00000000 08:01 5 /a/prog\n\
                    2000-3000 rw-p 00001000 08:01 5 /a/prog\n\
                    3000-3800 rw-p 00000000 00:00 0 \n\
                    5000-6000 rw-p 00000000 00:00 0 [heap]\n\
                    7000-8000 r--p 00000000 08:01 6 /lib/c.so\n";
        assert_eq!(image(maps), Some(0x1000..0x3800));
        assert_eq!(image(""), None);
        assert_eq!(image("nonsense"), None);
    }

    #[test]
    fn statics_are_told_from_what_is_on_the_heap_or_the_stack() {
        static ZERO: AtomicBool = AtomicBool::new(false);
        static DATA: [u64; 3] = [1, 2, 3];
        assert!(key(&ZERO).is_some());
        assert_ne!(key(&DATA[0]), key(&DATA[1]));
        assert!(key(&*Box::new(7)).is_none());
        let local = 7;
        assert!(key(&local).is_none());
    }
}
