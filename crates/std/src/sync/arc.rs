//! `Arc`, whose clones in threads count.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync as local;

use crucial_object::ObjectId;
use crucial_object::held::{self, Hold};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A reference-counted pointer, as [`std::sync::Arc`]. It travels as what it points to: primitives as handles, all else as
/// a copy. A thread that was spawned with a clone counts until it has ended.
///
/// It does not become an `Arc<dyn Trait>`: for what stays in a process there is `::std::sync::Arc`.
pub struct Arc<T: ?Sized>(local::Arc<T>);

/// The other pointer to an [`Arc`]'s value, as [`std::sync::Weak`]. It does not travel: send an [`Arc`].
pub struct Weak<T: ?Sized>(local::Weak<T>);

impl<T> Arc<T> {
    /// A pointer to `value`.
    pub fn new(value: T) -> Arc<T> {
        Arc(local::Arc::new(value))
    }

    /// A pointer to a value that points to itself.
    pub fn new_cyclic<F: FnOnce(&Weak<T>) -> T>(make: F) -> Arc<T> {
        Arc(local::Arc::new_cyclic(|weak| make(&Weak(weak.clone()))))
    }

    /// The value, if this is the only pointer, here and in threads.
    ///
    /// # Errors
    ///
    /// The pointer, if there are others.
    pub fn try_unwrap(this: Arc<T>) -> Result<T, Arc<T>> {
        local::Arc::try_unwrap(this.0).map_err(Arc)
    }

    /// The value, if this is the last pointer.
    pub fn into_inner(this: Arc<T>) -> Option<T> {
        local::Arc::into_inner(this.0)
    }

    /// The value, or else a clone of it.
    pub fn unwrap_or_clone(this: Arc<T>) -> T
    where
        T: Clone,
    {
        local::Arc::unwrap_or_clone(this.0)
    }
}

impl<T: Clone> Arc<T> {
    /// The value for changes: a clone of it, if there are other pointers.
    pub fn make_mut(this: &mut Arc<T>) -> &mut T {
        local::Arc::make_mut(&mut this.0)
    }
}

impl<T: ?Sized> Arc<T> {
    /// How many pointers there are, in this process and in the threads that it has spawned.
    pub fn strong_count(this: &Arc<T>) -> usize {
        local::Arc::strong_count(&this.0)
    }

    /// How many [`Weak`] ones there are.
    pub fn weak_count(this: &Arc<T>) -> usize {
        local::Arc::weak_count(&this.0)
    }

    /// Whether both point to the same value in this process.
    pub fn ptr_eq(this: &Arc<T>, other: &Arc<T>) -> bool {
        local::Arc::ptr_eq(&this.0, &other.0)
    }

    /// Where the value is.
    pub fn as_ptr(this: &Arc<T>) -> *const T {
        local::Arc::as_ptr(&this.0)
    }

    /// The value for changes, if this is the only pointer, here and in threads.
    pub fn get_mut(this: &mut Arc<T>) -> Option<&mut T> {
        local::Arc::get_mut(&mut this.0)
    }

    /// A pointer that does not keep the value.
    pub fn downgrade(this: &Arc<T>) -> Weak<T> {
        Weak(local::Arc::downgrade(&this.0))
    }
}

impl<T> Weak<T> {
    /// A pointer to nothing.
    pub const fn new() -> Weak<T> {
        Weak(local::Weak::new())
    }
}

impl<T: ?Sized> Weak<T> {
    /// The value, if it is there still.
    pub fn upgrade(&self) -> Option<Arc<T>> {
        self.0.upgrade().map(Arc)
    }

    /// How many [`Arc`]s point to the value.
    pub fn strong_count(&self) -> usize {
        self.0.strong_count()
    }

    /// How many of these point to the value.
    pub fn weak_count(&self) -> usize {
        self.0.weak_count()
    }

    /// Whether both point to the same value.
    pub fn ptr_eq(&self, other: &Weak<T>) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

impl<T: ?Sized> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> AsRef<T> for Arc<T> {
    fn as_ref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> Borrow<T> for Arc<T> {
    fn borrow(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> Clone for Arc<T> {
    fn clone(&self) -> Arc<T> {
        Arc(self.0.clone())
    }
}

impl<T: ?Sized> Clone for Weak<T> {
    fn clone(&self) -> Weak<T> {
        Weak(self.0.clone())
    }
}

impl<T> Default for Weak<T> {
    fn default() -> Weak<T> {
        Weak::new()
    }
}

impl<T: Default> Default for Arc<T> {
    fn default() -> Arc<T> {
        Arc::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Arc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for Arc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized> fmt::Debug for Weak<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(Weak)")
    }
}

impl<T: ?Sized> fmt::Pointer for Arc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: ?Sized + PartialEq> PartialEq for Arc<T> {
    fn eq(&self, other: &Arc<T>) -> bool {
        **self == **other
    }
}

impl<T: ?Sized + Eq> Eq for Arc<T> {}

impl<T: ?Sized + PartialOrd> PartialOrd for Arc<T> {
    fn partial_cmp(&self, other: &Arc<T>) -> Option<Ordering> {
        (**self).partial_cmp(&**other)
    }
}

impl<T: ?Sized + Ord> Ord for Arc<T> {
    fn cmp(&self, other: &Arc<T>) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl<T: ?Sized + Hash> Hash for Arc<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<T: ?Sized + std::error::Error> std::error::Error for Arc<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        (**self).source()
    }
}

impl<T> From<T> for Arc<T> {
    fn from(value: T) -> Arc<T> {
        Arc::new(value)
    }
}

impl From<&str> for Arc<str> {
    fn from(text: &str) -> Arc<str> {
        Arc(text.into())
    }
}

impl From<String> for Arc<str> {
    fn from(text: String) -> Arc<str> {
        Arc(text.into())
    }
}

impl<T> From<Vec<T>> for Arc<[T]> {
    fn from(items: Vec<T>) -> Arc<[T]> {
        Arc(items.into())
    }
}

impl<T: Clone> From<&[T]> for Arc<[T]> {
    fn from(items: &[T]) -> Arc<[T]> {
        Arc(items.into())
    }
}

impl<T, const N: usize> From<[T; N]> for Arc<[T]> {
    fn from(items: [T; N]) -> Arc<[T]> {
        Arc(items.into())
    }
}

impl<T: ?Sized> From<Box<T>> for Arc<T> {
    fn from(value: Box<T>) -> Arc<T> {
        Arc(value.into())
    }
}

impl<T> FromIterator<T> for Arc<[T]> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Arc<[T]> {
        Arc(items.into_iter().collect())
    }
}

/// A clone that a thread counts for. What is behind it leaves its own holds.
struct Counted<T: ?Sized>(local::Arc<T>);

impl<T: ?Sized + Send + Sync> Hold for Counted<T> {
    fn pass_on(&self) {}

    fn pin(&self) {}

    fn object(&self) -> Option<ObjectId> {
        None
    }
}

impl<T: ?Sized + Serialize + Send + Sync + 'static> Serialize for Arc<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        held::hold(local::Arc::new(Counted(self.0.clone())));
        (**self).serialize(serializer)
    }
}

impl<'de, T: ?Sized> Deserialize<'de> for Arc<T>
where
    Box<T>: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Arc<T>, D::Error> {
        Ok(Arc(Box::<T>::deserialize(deserializer)?.into()))
    }
}
