//! The common part of `#[shared]` and `#[cloud]`: parameters that travel.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::parse::Parse;
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::visit_mut::VisitMut;
use syn::{
    Attribute, Error, FnArg, Ident, Item, Pat, PatType, Result, ReturnType, Safety, Signature,
    Type, TypeReference,
};

/// serde knows tuples up to this length.
pub const PARAMETERS_MAX: usize = 16;

/// Reads the item that a macro is on. If it is of another kind, says where the macro `goes`; an error
/// further in is the user's own.
pub fn parse<T: Parse>(item: TokenStream, goes: &str) -> Result<T> {
    syn::parse2(item.clone()).map_err(|error| match syn::parse2::<Item>(item) {
        Ok(_) => Error::new(Span::call_site(), goes),
        Err(_) => error,
    })
}

/// One parameter of a remote function.
pub struct Parameter {
    pub name: Ident,
    /// As it stands in the signature.
    pub written: Type,
    /// The type that the other side decodes: `String` for `&str`, `Vec<T>` for `&[T]`, `PathBuf` for `&Path`, `T` for `&T`.
    pub owned: Type,
}

impl Parameter {
    /// Where the user wrote its type.
    pub fn span(&self) -> Span {
        self.written.span()
    }

    pub fn is_reference(&self) -> bool {
        matches!(self.written, Type::Reference(_))
    }

    /// Whether it is lent by `&mut`: what becomes of it comes back.
    pub fn is_lent(&self) -> bool {
        matches!(&self.written, Type::Reference(reference) if reference.mutability.is_some())
    }

    /// Whether it is a reference to a slice.
    pub fn is_slice(&self) -> bool {
        matches!(&self.written, Type::Reference(reference) if matches!(*reference.elem, Type::Slice(_)))
    }

    /// As it stands in the signature, with the lifetime `'__crucial` of what is lent.
    pub fn lent(&self) -> Type {
        match &self.written {
            Type::Reference(reference) if reference.mutability.is_some() => {
                let mut reference = reference.clone();
                reference.lifetime = Some(syn::parse_quote!('__crucial));
                Type::Reference(reference)
            }
            other => other.clone(),
        }
    }

    /// How the decoded value is handed on.
    pub fn pass(&self) -> TokenStream {
        let name = &self.name;
        if self.is_lent() {
            quote!(&mut #name)
        } else if self.is_reference() {
            quote!(&#name)
        } else {
            quote!(#name)
        }
    }
}

/// Refuses what no remote function can be.
pub fn check(signature: &Signature, what: &str) -> Result<()> {
    if let Some(token) = &signature.asyncness {
        return Err(Error::new_spanned(
            token,
            format!(
                "{what} is not async: it blocks, and `deferred()` or `spawn` give the caller its freedom"
            ),
        ));
    }
    if let Safety::Unsafe(token) = &signature.safety {
        return Err(Error::new_spanned(
            token,
            format!("{what} cannot be unsafe: its arguments come over a network"),
        ));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &signature.generics,
            format!("{what} cannot be generic: the other side must know which function to run"),
        ));
    }
    if let Some(token) = &signature.variadic {
        return Err(Error::new_spanned(
            token,
            format!("{what} cannot be variadic"),
        ));
    }
    if let ReturnType::Type(_, result) = &signature.output {
        check_result(result)?;
    }
    Ok(())
}

fn check_result(result: &Type) -> Result<()> {
    match result {
        Type::Reference(_) => Err(Error::new_spanned(
            result,
            "a result travels to another machine, so it must be owned: return a clone",
        )),
        Type::ImplTrait(_) => Err(Error::new_spanned(
            result,
            "a result travels to another machine, so its type must be named",
        )),
        _ => refuse_references(result, "a result"),
    }
}

/// Refuses a type that has a reference in it.
fn refuse_references(ty: &Type, what: &str) -> Result<()> {
    let mut references = References::default();
    references.visit_type(ty);
    match references.first {
        Some(reference) => Err(Error::new_spanned(
            reference,
            format!(
                "{what} travels to another machine, so what is in it must be owned: \
                 `String` for `&str`, `Vec<T>` for `&[T]`"
            ),
        )),
        None => Ok(()),
    }
}

#[derive(Default)]
struct References {
    first: Option<TypeReference>,
}

impl<'ast> Visit<'ast> for References {
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        self.first.get_or_insert_with(|| reference.clone());
    }
}

/// Refuses `#[cfg]` on a part of a signature that both sides must have.
pub fn refuse_conditions(attributes: &[Attribute], instead: &str) -> Result<()> {
    match attributes.iter().find(|a| a.path().is_ident("cfg")) {
        Some(condition) => Err(Error::new_spanned(
            condition,
            format!("client and server must have the same methods and parameters: {instead}"),
        )),
        None => Ok(()),
    }
}

/// Reads a parameter that is not lent.
pub fn parameter(argument: &PatType) -> Result<Parameter> {
    match &*argument.ty {
        Type::Reference(reference) if reference.mutability.is_some() => Err(Error::new_spanned(
            &argument.ty,
            "an argument travels to another machine, and changes to it would not come back: take it by value or by `&`, and \
             return what changed",
        )),
        _ => lendable_parameter(argument, plain_name(argument)?),
    }
}

/// The name of a parameter without a pattern.
fn plain_name(argument: &PatType) -> Result<Ident> {
    match &*argument.pat {
        Pat::Ident(pattern) => Ok(pattern.ident.clone()),
        pattern => Err(Error::new_spanned(
            pattern,
            "a parameter that travels needs a plain name; take it apart in the body",
        )),
    }
}

/// The parameters of a cloud function: they may be lent, and taken apart by patterns.
pub fn of_cloud_function(signature: &Signature) -> Result<Vec<Parameter>> {
    let parameters = typed(signature).enumerate().map(|(index, argument)| {
        let name = match &*argument.pat {
            Pat::Ident(pattern) => pattern.ident.clone(),
            // The function itself takes it apart.
            _ => quote::format_ident!("argument_{index}"),
        };
        lendable_parameter(argument, name)
    });
    parameters.collect()
}

/// Reads a parameter, which may be lent by `&mut`.
fn lendable_parameter(argument: &PatType, name: Ident) -> Result<Parameter> {
    refuse_conditions(
        &argument.attrs,
        "write the whole function twice, each with its `#[cfg]`",
    )?;
    let owned = match &*argument.ty {
        Type::Reference(reference) => match &*reference.elem {
            Type::Slice(slice) => {
                let element = &slice.elem;
                syn::parse_quote!(::std::vec::Vec<#element>)
            }
            Type::Path(path) if path.path.is_ident("str") => {
                if reference.mutability.is_some() {
                    return Err(Error::new_spanned(
                        &argument.ty,
                        "a `str` cannot be written as a whole: lend a `&mut String`",
                    ));
                }
                syn::parse_quote!(::std::string::String)
            }
            Type::Path(path) if is_path(&path.path) => {
                if reference.mutability.is_some() {
                    return Err(Error::new_spanned(
                        &argument.ty,
                        "a `Path` cannot be written as a whole: lend a `&mut PathBuf`",
                    ));
                }
                syn::parse_quote!(::std::path::PathBuf)
            }
            other => other.clone(),
        },
        Type::ImplTrait(_) => {
            return Err(Error::new_spanned(
                &argument.ty,
                "an argument travels to another machine, so its type must be named",
            ));
        }
        other => other.clone(),
    };
    refuse_references(&owned, "an argument")?;
    Ok(Parameter {
        name,
        written: (*argument.ty).clone(),
        owned,
    })
}

/// Whether this is the type of paths, written `Path` or `std::path::Path`. Another type of the name `Path` is named in full.
fn is_path(path: &syn::Path) -> bool {
    let names: Vec<_> = path
        .segments
        .iter()
        .map(|segment| segment.ident.to_string())
        .collect();
    let has_arguments = path
        .segments
        .iter()
        .any(|segment| !segment.arguments.is_none());
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    !has_arguments
        && matches!(
            names[..],
            ["Path"] | ["path", "Path"] | ["std", "path", "Path"]
        )
}

/// All parameters but the receiver.
pub fn typed(signature: &Signature) -> impl Iterator<Item = &PatType> {
    signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(argument) => Some(argument),
        _ => None,
    })
}

/// Replaces each type that is one of `names` by `replacement`; whether there was any.
pub fn substitute(ty: &mut Type, names: &[Ident], replacement: &Type) -> bool {
    let mut visitor = Substitute {
        names,
        replacement,
        found: false,
    };
    visitor.visit_type_mut(ty);
    visitor.found
}

struct Substitute<'a> {
    names: &'a [Ident],
    replacement: &'a Type,
    found: bool,
}

impl VisitMut for Substitute<'_> {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        if let Type::Path(path) = ty
            && path.qself.is_none()
            && self.names.iter().any(|name| path.path.is_ident(name))
        {
            *ty = self.replacement.clone();
            self.found = true;
            return;
        }
        syn::visit_mut::visit_type_mut(self, ty);
    }
}
