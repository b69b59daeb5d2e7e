//! The options of `#[shared]`.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::parse::Parser;
use syn::{Ident, LitStr, Path, Result, Type};

/// `name = "..", crate = path, previous = Type, sorted(K)`.
pub struct Options {
    pub name: Option<LitStr>,
    pub root: TokenStream,
    /// The type of which objects become this one's when its new version is uploaded.
    pub previous: Option<Type>,
    /// Type parameters that the server compares as their values compare.
    pub sorted: Vec<Ident>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            name: None,
            root: quote!(::crucial),
            previous: None,
            sorted: Vec::new(),
        }
    }
}

impl Options {
    pub fn parse(tokens: TokenStream) -> Result<Options> {
        let mut options = Options::default();
        let parser = syn::meta::parser(|meta| {
            if meta.path.is_ident("name") {
                options.name = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("crate") {
                let root: Path = meta.value()?.call(Path::parse_mod_style)?;
                options.root = root.into_token_stream();
            } else if meta.path.is_ident("previous") {
                options.previous = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("sorted") {
                meta.parse_nested_meta(|parameter| {
                    options.sorted.push(parameter.path.require_ident()?.clone());
                    Ok(())
                })?;
            } else {
                return Err(meta.error(
                    "#[shared] has the options `name = \"..\"`, `previous = Type`, `crate = path` and `sorted(K)`",
                ));
            }
            Ok(())
        });
        parser.parse2(tokens)?;
        Ok(options)
    }
}
