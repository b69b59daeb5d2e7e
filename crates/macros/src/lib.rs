//! The macros of Crucial. They are documented where users find them: in the crate `crucial`.
//!
//! Each expands to a few impls that call ordinary functions in `crucial_object::__private` and
//! `crucial::__private`.

use proc_macro::TokenStream;

mod cloud;
mod generics;
mod main_fn;
mod method;
mod options;
mod refusals;
mod shared;
mod signature;
mod sizes;
mod text;
mod travel;

/// Makes a type a shared object, and generates the proxy that `Shared<T>` dereferences to.
///
/// Goes on the inherent `impl` block that holds the type's remote methods. The type must be
/// `Serialize + DeserializeOwned`.
///
/// - Every function with a `&self` or `&mut self` receiver becomes a remote method. `&self` methods
///   are read-only; a `&mut self` method changes the object and is executed exactly once per call.
///   Functions without a receiver (constructors) stay local. Helpers belong in another `impl` block.
/// - Arguments and results are serde types. An argument can be a reference (`&T`, `&str`, `&[T]`, `&Path`);
///   results are owned.
/// - A method whose result is [`Poll<R>`](std::task::Poll) *waits*: while it gives `Pending` its
///   caller is blocked, and it is polled again after every later change of the object, first come
///   first served. A later poll that gives `Pending` must not change the object. A last parameter
///   `#[ticket] t: &mut Option<S>` (no part of the proxy's signature) is kept with the waiting call
///   from poll to poll; with `#[ticket(cancel = Self::leave)]`, `leave(&mut self, S)` is run when the
///   call ends without a result (time-out, cancellation, death of its caller).
/// - A method `#[wake] fn wake(&self) -> Wake` narrows which waiting calls a change polls.
/// - A method `#[valid] fn valid(&self) -> Result<(), String>` looks at the value that a program makes
///   an object of, as the server has decoded it; an error refuses it. What holds for the values of
///   constructors need not hold for bytes that anybody sends.
/// - A parameter `#[caller] caller: SessionId`, the last or the last before the ticket, is whose call it is; a method
///   `#[departed] fn departed(&mut self, session: SessionId)` is run when a session ends that has changed the object.
/// - A method under `#[fallible]` returns a `crucial::Result<R>` (or a `Poll` of one), whose error is that of the call.
/// - Type parameters are opaque to the server, which has the type once, with `Opaque` for each
///   parameter: their bounds in the impl must be ones that `Opaque` meets (`Clone`, `Eq`, `Ord`,
///   `Hash`).
///
/// A `usize` or `isize` in a signature is a warning (of the lint `deprecated`): an uploaded type runs where it has 32
/// bits. The macro does not see the type's fields: write `u64` and `i64` there, too.
///
/// Options: `#[shared(name = "..")]` sets the type's name on servers (its path by default); `previous = Type` names the
/// type whose objects become ones of this, by `From`, when an uploaded module replaces another; `sorted(K)` has the type
/// parameter `K` encoded so that its bytes compare as its values do.
///
/// The page `crucial::own_types` shows each of these in an example.
#[proc_macro_attribute]
pub fn shared(options: TokenStream, item: TokenStream) -> TokenStream {
    shared::expand(options.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes a function a cloud function: calling it runs nothing and returns a `Task<R>`, as calling
/// an `async fn` returns a future.
///
/// Give the task to `thread::spawn`, or run it on this thread with `Task::run_here`. Arguments
/// (which can be references: `&T`, `&str`, `&[T]`, `&Path`) and result are serde types; handles (`Shared<T>`)
/// are too.
#[proc_macro_attribute]
pub fn cloud(options: TokenStream, item: TokenStream) -> TokenStream {
    cloud::expand(options.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Goes on `fn main`, and lets the executable play all its roles: program, worker, server.
///
/// A process that a platform started as a worker runs cloud threads and never enters `main`; one
/// that was started as `PROGRAM crucial server ..` is a server. Otherwise `main` runs; when it
/// returns, the run ends: its workers are stopped, its ephemeral objects go.
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    main_fn::expand(options.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
