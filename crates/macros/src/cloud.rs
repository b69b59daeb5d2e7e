//! `#[cloud]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, Result, ReturnType, Type};

use crate::signature::{self, PARAMETERS_MAX, Parameter};
use crate::travel;

pub fn expand(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !options.is_empty() {
        return Err(Error::new_spanned(
            options,
            "#[cloud] has no options: how a thread runs is said by `thread::Builder`",
        ));
    }
    let function: ItemFn = signature::parse(item, "#[cloud] goes on a function")?;
    let signature = &function.sig;
    signature::check(signature, "a cloud function")?;
    if let Some(FnArg::Receiver(receiver)) = signature.inputs.first() {
        return Err(Error::new_spanned(
            receiver,
            "a cloud function has no receiver: take the value as an ordinary parameter",
        ));
    }
    let parameters: Vec<Parameter> = signature::typed(signature)
        .map(signature::parameter)
        .collect::<Result<_>>()?;
    if parameters.len() > PARAMETERS_MAX {
        return Err(Error::new_spanned(
            &signature.inputs,
            format!(
                "a cloud function has at most {PARAMETERS_MAX} parameters: put some in a struct"
            ),
        ));
    }

    let ItemFn {
        attrs, vis, block, ..
    } = &function;
    let name = &signature.ident;
    let result = match &signature.output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, result) => quote!(#result),
    };
    // Attributes that tell the caller something stay with the function that is called.
    let (outer, inner): (Vec<_>, Vec<_>) = attrs
        .iter()
        .partition(|a| a.path().is_ident("doc") || a.path().is_ident("deprecated"));
    let inputs = &signature.inputs;
    let written = parameters.iter().map(|p| {
        let (name, ty) = (&p.name, &p.written);
        quote!(#name: #ty)
    });
    let names: Vec<_> = parameters.iter().map(|p| &p.name).collect();
    let owned = parameters.iter().map(|p| &p.owned);
    let passed = parameters.iter().map(Parameter::pass);

    let result_type: Type = syn::parse_quote!(#result);
    let travelling = parameters
        .iter()
        .map(|p| (p.span(), &p.owned))
        .chain([(result_type.span(), &result_type)]);
    let assertions = travel::assert(&quote!(::crucial::__private), travelling);

    // The body sees these items, so their names must hide none of the user's.
    Ok(quote! {
        #(#outer)*
        #[cfg(not(target_family = "wasm"))]
        #vis fn #name(#(#written),*) -> ::crucial::Task<#result> {
            const __CRUCIAL_NAME: &str = ::core::concat!(::core::module_path!(), "::", ::core::stringify!(#name));

            #assertions

            #(#inner)*
            fn __crucial_function(#inputs) -> #result #block

            #[allow(clippy::needless_borrow)]
            fn __crucial_run(arguments: &[u8]) -> ::crucial::Result<::std::vec::Vec<u8>> {
                use ::crucial::__private::{Decodes as _, DecodesRefused as _, Encodes as _, EncodesRefused as _};
                let (#(#names,)*) =
                    (&::crucial::__private::Codec::<(#(#owned,)*)>::new()).decode_arguments(__CRUCIAL_NAME, arguments)?;
                (&::crucial::__private::Codec::<#result>::new()).encode(&__crucial_function(#(#passed),*))
            }

            ::crucial::__private::inventory::submit! {
                ::crucial::__private::CloudFunction {
                    name: __CRUCIAL_NAME,
                    run: __crucial_run,
                }
            }

            #[allow(clippy::needless_borrow)]
            let arguments = {
                use ::crucial::__private::{Encodes as _, EncodesRefused as _};
                let arguments = (#(#names,)*);
                (&::crucial::__private::Codec::of(&arguments)).encode(&arguments)
            };
            ::crucial::__private::task(__CRUCIAL_NAME, arguments)
        }
    })
}
