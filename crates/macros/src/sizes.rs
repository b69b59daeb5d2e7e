//! Numbers whose size is the machine's: a warning where one stands in a signature.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::visit::{self, Visit};
use syn::{Attribute, Ident, Type};

/// The types, and what to write instead.
const SIZES: [(&str, &str); 4] = [
    ("usize", "u64"),
    ("isize", "i64"),
    ("NonZeroUsize", "NonZeroU64"),
    ("NonZeroIsize", "NonZeroI64"),
];

/// Warns of each such type among these. As a macro can only make the compiler warn of what it warns of anyway, the type is
/// the use of a deprecated name. `attributes` are those of the item, which may allow that.
pub fn warn<'a>(types: impl Iterator<Item = &'a Type>, attributes: &[Attribute]) -> TokenStream {
    let mut found = Found::default();
    types.for_each(|ty| found.visit_type(ty));
    let allowed: Vec<_> = attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("allow"))
        .collect();
    let warnings = found.0.iter().map(|(name, instead)| {
        let note = format!(
            "`{name}` has 32 bits where an uploaded type runs, and 64 in the program: write `{instead}` in the signatures and \
             fields of a shared type"
        );
        let used = quote_spanned!(name.span()=> in_a_shared_type);
        quote! {
            #(#allowed)*
            const _: () = {
                #[deprecated(note = #note)]
                #[allow(non_upper_case_globals)]
                const in_a_shared_type: () = ();
                #used
            };
        }
    });
    quote!(#(#warnings)*)
}

#[derive(Default)]
struct Found(Vec<(Ident, &'static str)>);

impl<'ast> Visit<'ast> for Found {
    fn visit_path_segment(&mut self, segment: &'ast syn::PathSegment) {
        let known = SIZES.iter().find(|(name, _)| segment.ident == name);
        if let Some((_, instead)) = known {
            self.0.push((segment.ident.clone(), instead));
        }
        // A handle travels as the name of its object, whatever that is.
        if segment.ident != "Shared" {
            visit::visit_path_segment(self, segment);
        }
    }

    fn visit_type_array(&mut self, array: &'ast syn::TypeArray) {
        // Not the length, which may be a `usize`.
        self.visit_type(&array.elem);
    }
}
