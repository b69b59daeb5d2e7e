//! `#[main]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, ItemFn, Result};

use crate::signature;

const GOES_ON: &str = "#[crucial::main] goes on `fn main()`";

pub fn expand(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !options.is_empty() {
        return Err(Error::new_spanned(
            options,
            "#[crucial::main] has no options: settings are in `crucial::Config` and in the environment",
        ));
    }
    let function: ItemFn = signature::parse(item, GOES_ON)?;
    let signature = &function.sig;
    if signature.ident != "main" || !signature.inputs.is_empty() {
        return Err(Error::new_spanned(signature, GOES_ON));
    }
    if let Some(token) = &signature.asyncness {
        return Err(Error::new_spanned(
            token,
            "`main` is not async: start an executor in it, and `.await` deferred calls there",
        ));
    }
    let (attributes, visibility, output, body) = (
        &function.attrs,
        &function.vis,
        &signature.output,
        &function.block,
    );
    Ok(quote! {
        // A module has the shared types, and no program.
        #[cfg(target_family = "wasm")]
        #visibility fn main() {}

        #(#attributes)*
        #[cfg(not(target_family = "wasm"))]
        #visibility fn main() #output {
            // `body` sees it, so its name must hide none of the user's.
            fn __crucial_program() #output #body
            ::crucial::__private::main(__crucial_program)
        }
    })
}
