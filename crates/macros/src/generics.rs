//! The type of a `#[shared]` impl, and its parameters.

use syn::visit::Visit;
use syn::{Error, GenericParam, Ident, ItemImpl, Result, Type};

/// The names of the impl's type parameters.
pub fn type_parameters(block: &ItemImpl) -> Result<Vec<Ident>> {
    block
        .generics
        .params
        .iter()
        .map(|parameter| match parameter {
            GenericParam::Type(parameter) => Ok(parameter.ident.clone()),
            other => Err(Error::new_spanned(
                other,
                "a shared type has no lifetimes and no const parameters: a server has it once, for all",
            )),
        })
        .collect()
}

/// The name of `T` or `T<K, V>`, where `K` and `V` are just the parameters.
pub fn type_name(self_type: &Type, parameters: &[Ident]) -> Result<Ident> {
    let refuse = |detail: &str| Err(Error::new_spanned(self_type, detail));
    let Type::Path(path) = self_type else {
        return refuse("#[shared] goes on the impl of a struct or enum");
    };
    let Some(last) = path.path.segments.last() else {
        return refuse("#[shared] goes on the impl of a struct or enum");
    };
    let mut mentioned = Mentioned::default();
    mentioned.visit_path_arguments(&last.arguments);
    if mentioned.names != *parameters {
        return refuse(
            "the arguments of a shared type are just the impl's own parameters, in order: \
             a server has one `T<_>` for all",
        );
    }
    Ok(last.ident.clone())
}

#[derive(Default)]
struct Mentioned {
    names: Vec<Ident>,
}

impl<'ast> Visit<'ast> for Mentioned {
    fn visit_path_segment(&mut self, segment: &'ast syn::PathSegment) {
        self.names.push(segment.ident.clone());
        syn::visit::visit_path_segment(self, segment);
    }
}
