//! The types linked into this executable. `#[shared]` adds them; the user registers nothing.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::TypeInfo;

/// One registered type.
#[doc(hidden)]
pub struct Registration(pub fn() -> TypeInfo);

inventory::collect!(Registration);

/// Registers a shared type at link time.
#[doc(hidden)]
#[macro_export]
macro_rules! register_type {
    ($type:ty) => {
        $crate::__private::inventory::submit! {
            $crate::registry::Registration($crate::TypeInfo::of::<$type>)
        }
    };
}

static TYPES: LazyLock<HashMap<&'static str, TypeInfo>> = LazyLock::new(|| {
    let mut types = HashMap::new();
    for registration in inventory::iter::<Registration> {
        let info = (registration.0)();
        let name = info.name;
        let earlier = types.insert(name, info);
        // The name is the type's path, so only two `#[shared(name = ..)]` can meet here.
        assert!(
            earlier.is_none(),
            "two shared types are named {name:?}: change the `name` in one #[shared]"
        );
    }
    types
});

/// The type called `name`.
pub fn find(name: &str) -> Option<&'static TypeInfo> {
    TYPES.get(name)
}

/// All types, in no particular order.
pub fn types() -> impl Iterator<Item = &'static TypeInfo> {
    TYPES.values()
}
