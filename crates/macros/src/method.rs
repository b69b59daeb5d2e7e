//! The methods of a `#[shared]` impl, and the attributes on them.

use syn::{
    Attribute, Error, FnArg, GenericArgument, Ident, ImplItem, ImplItemFn, PatType, Path,
    PathArguments, ReceiverKind, Result, ReturnType, Type, Visibility,
};

use crate::refusals::Refusals;
use crate::signature::{self, PARAMETERS_MAX, Parameter};

/// Methods of `Shared<T>` itself, which would hide a method of the same name.
const HANDLE_METHODS: [&str; 7] = [
    "clear_poison",
    "clone",
    "deferred",
    "delete",
    "id",
    "key",
    "with_timeout",
];

/// A method of a `#[shared]` impl, read.
pub struct RemoteMethod {
    pub documentation: Vec<Attribute>,
    pub visibility: Visibility,
    pub name: Ident,
    pub writes: bool,
    pub parameters: Vec<Parameter>,
    /// Whether it has a `#[caller]` parameter.
    pub caller: bool,
    pub ticket: Option<TicketParameter>,
    /// The result, without its `Poll` and, if it is fallible, without its `Result`.
    pub result: Type,
    pub waits: bool,
    pub fallible: bool,
}

/// A `#[ticket]` parameter.
pub struct TicketParameter {
    pub memory: Type,
    pub cancel: Option<Path>,
}

impl RemoteMethod {
    /// Reads a method, and takes the macro's own attributes out of it.
    pub fn parse(function: &mut ImplItemFn) -> Result<RemoteMethod> {
        let name = function.sig.ident.clone();
        let Some(FnArg::Receiver(receiver)) = function.sig.inputs.first() else {
            unreachable!("the caller saw the receiver");
        };
        let ReceiverKind::Reference(_, _, mutability) = &receiver.kind else {
            return Err(Error::new_spanned(
                receiver,
                "a remote method takes `&self` or `&mut self`: the object stays on its server",
            ));
        };
        let writes = mutability.is_some();
        if HANDLE_METHODS.iter().any(|reserved| name == reserved) {
            return Err(Error::new_spanned(
                &name,
                format!(
                    "`{name}` is a method of every handle (`Shared::{name}`), which would hide this one: rename it"
                ),
            ));
        }
        let mut refusals = Refusals::default();
        refusals.of(signature::check(&function.sig, "a remote method"));
        refusals.of(signature::refuse_conditions(
            &function.attrs,
            "put the `#[cfg]` on the whole impl block, or into the method's body",
        ));
        let fallible = take_attribute(&mut function.attrs, "fallible");
        let ticket = take_ticket(function)?;
        let caller = take_caller(function, ticket.is_some())?;
        let count = signature::typed(&function.sig).count();
        let travelling = count - usize::from(ticket.is_some()) - usize::from(caller);
        let parameters: Vec<Parameter> = signature::typed(&function.sig)
            .take(travelling)
            .filter_map(|argument| refusals.of(signature::parameter(argument)))
            .collect();
        if parameters.len() > PARAMETERS_MAX {
            refusals.add(Error::new_spanned(
                &function.sig.inputs,
                format!(
                    "a remote method has at most {PARAMETERS_MAX} parameters: put some in a struct"
                ),
            ));
        }
        let written: Type = match &function.sig.output {
            ReturnType::Default => syn::parse_quote!(()),
            ReturnType::Type(_, result) => (**result).clone(),
        };
        let polled = type_argument(&written, "Poll");
        if ticket.is_some() && polled.is_none() {
            refusals.add(Error::new_spanned(
                &function.sig.output,
                "a method with a #[ticket] waits, so its result is a `Poll<R>`",
            ));
        }
        let waits = polled.is_some();
        let mut result = polled.unwrap_or(written);
        if let Some(attribute) = &fallible {
            match type_argument(&result, "Result") {
                Some(succeeded) => result = succeeded,
                None => refusals.add(Error::new_spanned(
                    attribute,
                    "a #[fallible] method returns a `crucial::Result<R>` (or a `Poll` of one), whose \
                     error becomes the call's",
                )),
            }
        }
        refusals.finish()?;
        Ok(RemoteMethod {
            documentation: function
                .attrs
                .iter()
                .filter(|a| a.path().is_ident("doc") || a.path().is_ident("deprecated"))
                .cloned()
                .collect(),
            visibility: function.vis.clone(),
            name,
            writes,
            parameters,
            caller,
            ticket,
            result,
            waits,
            fallible: fallible.is_some(),
        })
    }
}

/// Takes `#[name]` off the one method of the type that has it; whether this is it.
pub fn take_only(function: &mut ImplItemFn, name: &str, only: &mut Option<Ident>) -> Result<bool> {
    let Some(attribute) = take_attribute(&mut function.attrs, name) else {
        return Ok(false);
    };
    if only.is_some() {
        let message = format!("a type has one #[{name}] method");
        return Err(Error::new_spanned(attribute, message));
    }
    *only = Some(function.sig.ident.clone());
    Ok(true)
}

/// The macro's own attributes, of methods and of their parameters.
const OF_METHODS: [&str; 4] = ["departed", "fallible", "valid", "wake"];
const OF_PARAMETERS: [&str; 2] = ["caller", "ticket"];

/// Takes the macro's own attributes out of what was refused: the compiler does not know them, and would say so as well.
pub fn strip(item: &mut ImplItem) {
    let ImplItem::Fn(function) = item else {
        return;
    };
    let is_one_of = |names: &[&str], attribute: &Attribute| {
        names.iter().any(|name| attribute.path().is_ident(name))
    };
    function
        .attrs
        .retain(|attribute| !is_one_of(&OF_METHODS, attribute));
    for input in &mut function.sig.inputs {
        if let FnArg::Typed(parameter) = input {
            parameter
                .attrs
                .retain(|attribute| !is_one_of(&OF_PARAMETERS, attribute));
        }
    }
}

/// Takes `#[caller]` off its parameter, the last that is no ticket; whether there is one.
fn take_caller(function: &mut ImplItemFn, has_ticket: bool) -> Result<bool> {
    let last = function.sig.inputs.len() - 1 - usize::from(has_ticket);
    let mut found = false;
    for (position, input) in function.sig.inputs.iter_mut().enumerate() {
        let FnArg::Typed(parameter) = input else {
            continue;
        };
        let Some(attribute) = take_attribute(&mut parameter.attrs, "caller") else {
            continue;
        };
        if position != last {
            return Err(Error::new_spanned(
                attribute,
                "the #[caller] is the last parameter, or the last before the #[ticket]",
            ));
        }
        found = true;
    }
    Ok(found)
}

/// Takes `#[ticket]` off the last parameter.
fn take_ticket(function: &mut ImplItemFn) -> Result<Option<TicketParameter>> {
    let count = function.sig.inputs.len();
    let mut found = None;
    for (position, input) in function.sig.inputs.iter_mut().enumerate() {
        let FnArg::Typed(parameter) = input else {
            continue;
        };
        let Some(attribute) = take_attribute(&mut parameter.attrs, "ticket") else {
            continue;
        };
        if position + 1 != count {
            return Err(Error::new_spanned(
                attribute,
                "the #[ticket] is the last parameter",
            ));
        }
        found = Some(TicketParameter {
            memory: ticket_memory(parameter)?,
            cancel: ticket_cancel(&attribute)?,
        });
    }
    Ok(found)
}

fn ticket_memory(parameter: &PatType) -> Result<Type> {
    if let Type::Reference(reference) = &*parameter.ty
        && reference.mutability.is_some()
        && let Some(memory) = type_argument(&reference.elem, "Option")
    {
        return Ok(memory);
    }
    Err(Error::new_spanned(
        &parameter.ty,
        "a ticket is a `&mut Option<S>`: `None` at the first poll, then what the method left in it",
    ))
}

fn ticket_cancel(attribute: &Attribute) -> Result<Option<Path>> {
    let mut cancel = None;
    if matches!(attribute.meta, syn::Meta::Path(_)) {
        return Ok(None);
    }
    attribute.parse_nested_meta(|meta| {
        if !meta.path.is_ident("cancel") {
            return Err(meta.error("#[ticket] has the option `cancel = Self::function`"));
        }
        cancel = Some(meta.value()?.parse()?);
        Ok(())
    })?;
    Ok(cancel)
}

fn take_attribute(attributes: &mut Vec<Attribute>, name: &str) -> Option<Attribute> {
    let position = attributes.iter().position(|a| a.path().is_ident(name))?;
    Some(attributes.remove(position))
}

/// `R` of `name<R>`, by its last path segment.
fn type_argument(ty: &Type, name: &str) -> Option<Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    if last.ident != name {
        return None;
    }
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match arguments.args.first()? {
        GenericArgument::Type(argument) if arguments.args.len() == 1 => Some(argument.clone()),
        _ => None,
    }
}
