//! What an expansion asks the compiler about the types that travel.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::Type;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Types in whose arguments nothing travels.
const HANDLES: [&str; 2] = ["Shared", "PhantomData"];

/// Compiles if all these types travel, and no lock or cell is in them as far as they are written out. If not, the compiler
/// says so where the user wrote the type, once for each type.
pub fn assert<'a>(rt: &TokenStream, types: impl Iterator<Item = (Span, &'a Type)>) -> TokenStream {
    let mut found = Found::default();
    let mut outer = Seen::default();
    let mut assertions = Vec::new();
    for (span, ty) in types {
        if outer.is_new(ty) {
            assertions.push(quote_spanned!(span=> #rt::travels::<#ty>();));
        }
        found.span = Some(span);
        found.visit_type(ty);
    }
    let looks = found
        .types
        .iter()
        .map(|(span, ty)| quote_spanned!(*span=> #rt::is_whole(&#rt::Look::<#ty>::new().cell());));
    quote! {
        const _: () = {
            #[allow(dead_code)]
            fn __crucial_travels() {
                use #rt::LookAtAny as _;
                #(#assertions)*
                #(#looks)*
            }
        };
    }
}

/// Types that were met before, by how they are written.
#[derive(Default)]
struct Seen(Vec<String>);

impl Seen {
    fn is_new(&mut self, ty: &Type) -> bool {
        let text = ty.to_token_stream().to_string();
        let is_new = !self.0.contains(&text);
        if is_new {
            self.0.push(text);
        }
        is_new
    }
}

/// All types that are written out in others.
#[derive(Default)]
struct Found {
    /// Where the outermost type stands: one that the macro has made has no place of its own.
    span: Option<Span>,
    seen: Seen,
    types: Vec<(Span, Type)>,
}

impl<'ast> Visit<'ast> for Found {
    fn visit_type_path(&mut self, path: &'ast syn::TypePath) {
        let ty = Type::Path(path.clone());
        let outermost = self.span.take();
        if self.seen.is_new(&ty) {
            self.types
                .push((outermost.unwrap_or_else(|| ty.span()), ty));
        }
        let last = path.path.segments.last();
        if last.is_none_or(|last| HANDLES.iter().all(|handle| last.ident != handle)) {
            visit::visit_type_path(self, path);
        }
    }

    fn visit_type_tuple(&mut self, tuple: &'ast syn::TypeTuple) {
        self.span = None;
        visit::visit_type_tuple(self, tuple);
    }

    fn visit_type_array(&mut self, array: &'ast syn::TypeArray) {
        // Not the length.
        self.span = None;
        self.visit_type(&array.elem);
    }
}
