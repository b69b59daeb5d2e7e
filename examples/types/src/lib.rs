//! The types of the applications' shared objects, one module for each application.
//!
//! The types are linked into the applications, which bring their own server. A server that was built without them can
//! load them while it runs:
//!
//! ```sh
//! crucial build -p crucial-example-types
//! crucial push target/wasm32-unknown-unknown/release/crucial_example_types.wasm
//! CRUCIAL_CLUSTER=127.0.0.1:7171 cargo run --release --example kmeans
//! ```
//!
//! So the crate contains only code that runs on a server and compiles to WebAssembly.

pub mod inference;
pub mod kmeans;
pub mod logistic;
pub mod mapreduce;
pub mod philosophers;
pub mod santa;
