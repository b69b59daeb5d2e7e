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
    let parameters = signature::of_cloud_function(signature)?;
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
        let (name, ty) = (&p.name, p.lent());
        quote!(#name: #ty)
    });
    let lent: Vec<_> = parameters.iter().filter(|p| p.is_lent()).collect();
    let bound = parameters.iter().map(|p| {
        let (name, mutable) = (&p.name, p.is_lent().then(|| quote!(mut)));
        quote!(#mutable #name)
    });
    let owned = parameters.iter().map(|p| &p.owned);
    let passed = parameters.iter().map(Parameter::pass);

    let sent = parameters.iter().map(|p| {
        let name = &p.name;
        match p.is_lent() {
            true => quote!(&*#name),
            false => quote!(#name),
        }
    });
    let make = quote! {
        ::crucial::__private::task(__CRUCIAL_NAME, || {
            use ::crucial::__private::{Encodes as _, EncodesRefused as _};
            let __crucial_arguments = (#(#sent,)*);
            #[allow(clippy::needless_borrow)]
            (&::crucial::__private::Codec::of(&__crucial_arguments)).encode(&__crucial_arguments)
        })
    };
    let (lifetime, task, make, written_back) = if lent.is_empty() {
        let task = quote!(::crucial::Task<#result>);
        (quote!(), task, make, quote!(::std::vec::Vec::new()))
    } else {
        let task = quote!(::crucial::MutTask<'__crucial, #result>);
        let (names, owned) = (
            lent.iter().map(|p| &p.name).collect::<Vec<_>>(),
            lent.iter().map(|p| &p.owned),
        );
        let fresh: Vec<_> = (0..lent.len())
            .map(|n| quote::format_ident!("__crucial_{n}"))
            .collect();
        let writes = lent.iter().zip(&fresh).map(|(p, fresh)| {
            let name = &p.name;
            match p.is_slice() {
                true => quote!(::crucial::__private::overwrite(#name, #fresh)?;),
                false => quote!(*#name = #fresh;),
            }
        });
        let make = quote! {
            let __crucial_task = #make;
            ::crucial::MutTask::new(__crucial_task, ::std::boxed::Box::new(move |__crucial_bytes: &[u8]| {
                use ::crucial::__private::{Decodes as _, DecodesRefused as _};
                #[allow(clippy::needless_borrow)]
                let (#(#fresh,)*) = (&::crucial::__private::Codec::<(#(#owned,)*)>::new())
                    .decode_arguments(__CRUCIAL_NAME, __crucial_bytes)?;
                #(#writes)*
                ::core::result::Result::Ok(())
            }))
        };
        let written_back = quote!({
            let __crucial_lent = (#(&#names,)*);
            (&::crucial::__private::Codec::of(&__crucial_lent)).encode(&__crucial_lent)?
        });
        (quote!(<'__crucial>), task, make, written_back)
    };

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
        #vis fn #name #lifetime (#(#written),*) -> #task {
            const __CRUCIAL_NAME: &str = ::core::concat!(::core::module_path!(), "::", ::core::stringify!(#name));

            #assertions

            #(#inner)*
            fn __crucial_function(#inputs) -> #result #block

            #[allow(clippy::needless_borrow)]
            fn __crucial_run(arguments: &[u8]) -> ::crucial::Result<::crucial::__private::Returned> {
                use ::crucial::__private::{Decodes as _, DecodesRefused as _, Encodes as _, EncodesRefused as _};
                let (#(#bound,)*) =
                    (&::crucial::__private::Codec::<(#(#owned,)*)>::new()).decode_arguments(__CRUCIAL_NAME, arguments)?;
                let __crucial_result = __crucial_function(#(#passed),*);
                ::core::result::Result::Ok(::crucial::__private::Returned {
                    result: (&::crucial::__private::Codec::<#result>::new()).encode(&__crucial_result)?,
                    written: #written_back,
                })
            }

            ::crucial::__private::inventory::submit! {
                ::crucial::__private::CloudFunction {
                    name: __CRUCIAL_NAME,
                    run: __crucial_run,
                }
            }

            #make
        }
    })
}
