//! A method's signature as text, for clients in other languages.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{Attribute, Expr, ExprLit, Lit, Meta, Type};

use crate::method::RemoteMethod;

/// The expression of a method's `Signature`. `own` names the shared type where the source says `Self`.
pub fn signature(
    rt: &TokenStream,
    method: &RemoteMethod,
    own: impl Fn(&Type) -> Type,
) -> TokenStream {
    let arguments = method.parameters.iter().map(|parameter| {
        let name = parameter.name.to_string();
        let type_text = type_text(&own(&parameter.owned));
        quote!(#rt::Argument { name: #name, type_text: #type_text })
    });
    let result = type_text(&own(&method.result));
    let fallible = method.fallible;
    let caller = method.caller.then(|| quote!(#rt::Supplied::Caller,));
    let ticket = method
        .ticket
        .is_some()
        .then(|| quote!(#rt::Supplied::Ticket,));
    let summary = summary(&method.documentation);
    quote! {
        #rt::Signature {
            arguments: &[#(#arguments),*],
            result: #result,
            fallible: #fallible,
            supplied: &[#caller #ticket],
            summary: #summary,
        }
    }
}

/// A type as a reader would write it: `Vec<(K, V)>`.
fn type_text(ty: &Type) -> String {
    let mut text = String::new();
    write_tokens(ty.to_token_stream(), &mut text);
    // The owned form of a reference to a slice or a string.
    text.replace("::std::vec::Vec", "Vec")
        .replace("::std::string::String", "String")
        .replace("::std::path::PathBuf", "PathBuf")
}

fn write_tokens(tokens: TokenStream, text: &mut String) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    // A type that came out of another macro.
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write_tokens(group.stream(), text);
                text.push_str(close);
            }
            TokenTree::Punct(punct) if matches!(punct.as_char(), ',' | ';') => {
                text.push(punct.as_char());
                text.push(' ');
            }
            TokenTree::Punct(punct) => text.push(punct.as_char()),
            word => {
                // Two words in a row, as in `dyn Trait`.
                if text.ends_with(|last: char| last.is_alphanumeric() || last == '_') {
                    text.push(' ');
                }
                text.push_str(&word.to_string());
            }
        }
    }
}

/// The first paragraph of the documentation.
pub fn summary(documentation: &[Attribute]) -> String {
    let lines = documentation.iter().filter_map(documentation_line);
    let lines: Vec<String> = lines.map(|line| line.trim().to_owned()).collect();
    let paragraph = lines
        .iter()
        .skip_while(|line| line.is_empty())
        .take_while(|line| !line.is_empty());
    paragraph.cloned().collect::<Vec<_>>().join(" ")
}

/// The text of a `#[doc = ".."]`. Text that another macro makes is not known here.
fn documentation_line(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else {
        return None;
    };
    match &pair.value {
        Expr::Lit(ExprLit {
            lit: Lit::Str(line),
            ..
        }) if pair.path.is_ident("doc") => Some(line.value()),
        _ => None,
    }
}
