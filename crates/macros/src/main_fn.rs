//! `#[main]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, ItemFn, Result};

pub fn expand(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !options.is_empty() {
        return Err(Error::new_spanned(
            options,
            "#[crucial::main] has no options: settings are in `crucial::Config` and in the environment",
        ));
    }
    let function: ItemFn = syn::parse2(item)?;
    let signature = &function.sig;
    if signature.ident != "main" || !signature.inputs.is_empty() {
        return Err(Error::new_spanned(
            signature,
            "#[crucial::main] goes on `fn main()`",
        ));
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
        #(#attributes)*
        #visibility fn main() #output {
            fn program() #output #body
            ::crucial::__private::main(program)
        }
    })
}
