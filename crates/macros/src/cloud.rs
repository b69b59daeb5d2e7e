//! `#[cloud]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, Result, ReturnType, Type};

use crate::signature::{self, PARAMETERS_MAX, Parameter};

pub fn expand(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !options.is_empty() {
        return Err(Error::new_spanned(
            options,
            "#[cloud] has no options: how a thread runs is said by `thread::Builder`",
        ));
    }
    let function: ItemFn = syn::parse2(item)?;
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
    let (documentation, attributes): (Vec<_>, Vec<_>) =
        attrs.iter().partition(|a| a.path().is_ident("doc"));
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
    let assertions = signature::assert_travels(&quote!(::crucial::__private), travelling);

    Ok(quote! {
        #(#documentation)*
        #vis fn #name(#(#written),*) -> ::crucial::Task<#result> {
            const NAME: &str = ::core::concat!(::core::module_path!(), "::", ::core::stringify!(#name));

            #assertions

            #(#attributes)*
            fn function(#inputs) -> #result #block

            fn run(arguments: &[u8]) -> ::crucial::Result<::std::vec::Vec<u8>> {
                let (#(#names,)*): (#(#owned,)*) =
                    ::crucial::__private::decode_arguments(NAME, arguments)?;
                ::crucial::encode(&function(#(#passed),*))
            }

            ::crucial::__private::inventory::submit! {
                ::crucial::__private::CloudFunction { name: NAME, run }
            }

            ::crucial::__private::task(NAME, &(#(#names,)*))
        }
    })
}
