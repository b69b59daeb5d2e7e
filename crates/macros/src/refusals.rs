//! All that a macro refuses of one item, told at once.

use proc_macro2::TokenStream;
use syn::{Error, Result};

#[derive(Default)]
pub struct Refusals(Option<Error>);

impl Refusals {
    pub fn add(&mut self, error: Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// What was made, if it was not refused.
    pub fn of<T>(&mut self, made: Result<T>) -> Option<T> {
        made.map_err(|error| self.add(error)).ok()
    }

    /// The errors, if there are any.
    pub fn finish(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }

    pub fn into_compile_errors(self) -> Option<TokenStream> {
        self.0.map(Error::into_compile_error)
    }
}
