//! `#[shared]`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::parse::Parser;
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{Error, FnArg, GenericParam, Ident, ImplItem, ItemImpl, LitStr, Path, Result, Type};

use crate::method::{RemoteMethod, take_only};
use crate::signature::{self, Parameter, substitute};
use crate::{sizes, text};

pub fn expand(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let options = Options::parse(options)?;
    let mut block: ItemImpl = signature::parse(
        item,
        "#[shared] goes on the type's `impl` block, the one that holds its remote methods",
    )?;
    let shared = SharedImpl::parse(&mut block, &options)?;
    let generated = shared.generate(&options);
    let warnings = sizes::warn(shared.written_types(), &block.attrs);
    Ok(quote! {
        #block
        #generated
        #warnings
    })
}

/// `name = "..", crate = path, previous = Type, sorted(K)`.
struct Options {
    name: Option<LitStr>,
    root: TokenStream,
    /// The type of which objects become this one's when its new version is uploaded.
    previous: Option<Type>,
    /// Type parameters that the server compares as their values compare.
    sorted: Vec<Ident>,
}

impl Options {
    fn parse(tokens: TokenStream) -> Result<Options> {
        let mut options = Options {
            name: None,
            root: quote!(::crucial),
            previous: None,
            sorted: Vec::new(),
        };
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

/// An impl block, read.
struct SharedImpl {
    self_type: Type,
    type_name: Ident,
    /// The type's parameters, in order.
    parameters: Vec<TypeParameter>,
    methods: Vec<RemoteMethod>,
    wake: Option<Ident>,
    valid: Option<Ident>,
    departed: Option<Ident>,
}

/// A parameter of a generic shared type.
struct TypeParameter {
    name: Ident,
    sorted: bool,
}

impl TypeParameter {
    /// The bounds of the client's type.
    fn bound(&self, rt: &TokenStream) -> TokenStream {
        if self.sorted {
            quote!(#rt::SortKey)
        } else {
            quote!(#rt::Element)
        }
    }

    /// The parameter's type on the server.
    fn opaque(&self, rt: &TokenStream) -> Type {
        if self.sorted {
            syn::parse_quote!(#rt::OpaqueKey)
        } else {
            syn::parse_quote!(#rt::Opaque)
        }
    }

    /// The parameter's type on the wire.
    fn sealed(&self, rt: &TokenStream) -> Type {
        if self.sorted {
            syn::parse_quote!(#rt::SealedKey)
        } else {
            syn::parse_quote!(#rt::Sealed)
        }
    }
}

impl SharedImpl {
    /// Reads the block, and takes the macro's own attributes out of it.
    fn parse(block: &mut ItemImpl, options: &Options) -> Result<SharedImpl> {
        if let Some((path, _)) = &block.trait_ {
            return Err(Error::new_spanned(
                path,
                "#[shared] goes on the type's own impl block: trait methods are not remote",
            ));
        }
        let parameters = type_parameters(block)?;
        if let (Some(previous), false) = (&options.previous, parameters.is_empty()) {
            return Err(Error::new_spanned(
                previous,
                "`previous` is for types without parameters: a server cannot convert what it does not know",
            ));
        }
        let type_name = type_name(&block.self_ty, &parameters)?;
        if let Some(stranger) = options
            .sorted
            .iter()
            .find(|name| !parameters.contains(name))
        {
            return Err(Error::new_spanned(
                stranger,
                "`sorted` names a type parameter of the impl block",
            ));
        }
        let mut methods: Vec<RemoteMethod> = Vec::new();
        let (mut wake, mut departed, mut valid) = (None, None, None);
        for item in &mut block.items {
            let ImplItem::Fn(function) = item else {
                continue;
            };
            if take_only(function, "wake", &mut wake)?
                || take_only(function, "departed", &mut departed)?
                || take_only(function, "valid", &mut valid)?
            {
                continue;
            }
            let Some(FnArg::Receiver(_)) = function.sig.inputs.first() else {
                continue;
            };
            let method = RemoteMethod::parse(function)?;
            if let Some(other) = methods.iter().find(|m| fnv(&m.name) == fnv(&method.name)) {
                return Err(Error::new_spanned(
                    &method.name,
                    format!(
                        "the methods {} and {} have the same id: rename one",
                        other.name, method.name
                    ),
                ));
            }
            methods.push(method);
        }
        Ok(SharedImpl {
            self_type: (*block.self_ty).clone(),
            type_name,
            parameters: parameters
                .into_iter()
                .map(|name| TypeParameter {
                    sorted: options.sorted.contains(&name),
                    name,
                })
                .collect(),
            methods,
            wake,
            valid,
            departed,
        })
    }

    fn generate(&self, options: &Options) -> TokenStream {
        let root = &options.root;
        let rt = quote!(#root::__private);
        let served = self.served(&rt);
        let invocation = local("invocation");
        let shared_type = self.shared_type(options, &rt);
        let proxy = self.proxy(&rt, Face::Blocking);
        let deferred = self.proxy(&rt, Face::Deferred);
        let dispatch = self.methods.iter().enumerate().map(|(index, method)| {
            let body = self.dispatch(&rt, method);
            quote!(#index => { #body })
        });
        let cancel = self.methods.iter().enumerate().filter_map(|(index, method)| {
            let ticket = method.ticket.as_ref()?;
            let (memory, path) = (self.on_server(&rt, &ticket.memory), ticket.cancel.as_ref()?);
            Some(quote! {
                #index => {
                    if let ::core::option::Option::Some(ticket) = #rt::decode_ticket::<#memory>(&ticket)? {
                        #path(self, ticket);
                    }
                    ::core::result::Result::Ok(())
                }
            })
        });
        let wake = self.wake.iter().map(|name| {
            quote! {
                fn wake(&self) -> #rt::Wake {
                    <#served>::#name(self)
                }
            }
        });
        let valid = self.valid.iter().map(|name| {
            quote! {
                fn validate(&self) -> ::core::result::Result<(), ::std::string::String> {
                    <#served>::#name(self)
                }
            }
        });
        let departed = self.departed.iter().map(|name| {
            quote! {
                const TRACKS_SESSIONS: bool = true;

                fn on_session_end(&mut self, session: #rt::SessionId) {
                    self.#name(session);
                }
            }
        });
        let previous = options.previous.iter().map(|previous| {
            let span = previous.span();
            quote_spanned! {span=>
                fn restore_older(state: &[u8]) -> #rt::Result<Self> {
                    #rt::restore_previous::<#previous, Self>(state)
                }
            }
        });
        // A type that mentions a type parameter is sealed, whatever it is.
        let parameters = self.methods.iter().flat_map(|method| {
            let arguments = method.parameters.iter().map(|p| (p.span(), &p.owned));
            arguments.chain([(method.result.span(), &method.result)])
        });
        let travelling: Vec<(Span, Type)> = parameters
            .filter(|(_, ty)| self.on_wire(&rt, ty).is_none())
            .map(|(span, ty)| (span, self.on_client(ty)))
            .collect();
        let assertions =
            signature::assert_travels(&rt, travelling.iter().map(|(span, ty)| (*span, ty)));
        quote! {
            #shared_type
            #proxy
            #deferred
            #assertions

            #[allow(deprecated, unused_variables, clippy::let_unit_value, clippy::unit_arg)]
            impl #rt::Object for #served {
                #(#departed)*
                #(#previous)*

                fn dispatch(&mut self, #invocation: #rt::Invocation<'_>) -> #rt::Result<#rt::Poll<()>> {
                    match #invocation.index {
                        #(#dispatch)*
                        _ => ::core::unreachable!("a method index comes from METHODS"),
                    }
                }

                fn cancel(&mut self, index: usize, ticket: #rt::Ticket) -> #rt::Result<()> {
                    match index {
                        #(#cancel)*
                        _ => ::core::result::Result::Ok(()),
                    }
                }

                #(#wake)*
                #(#valid)*
            }

            #rt::register_type!(#served);
        }
    }

    fn shared_type(&self, options: &Options, rt: &TokenStream) -> TokenStream {
        let type_name = &self.type_name;
        let self_type = &self.self_type;
        let (proxy, deferred) = (
            Face::Blocking.name(type_name),
            Face::Deferred.name(type_name),
        );
        let parameters: Vec<_> = self.parameters.iter().map(|p| &p.name).collect();
        let bounds = self.parameters.iter().map(|p| p.bound(rt));
        let name = match &options.name {
            Some(name) => quote!(#name),
            None => quote!(::core::concat!(
                ::core::module_path!(),
                "::",
                ::core::stringify!(#type_name)
            )),
        };
        let kinds = self.parameters.iter().map(|parameter| {
            let name = &parameter.name;
            match parameter.sorted {
                true => quote!(<#name as #rt::SortKey>::key_kind()),
                false => quote!(<#name as #rt::Element>::kind()),
            }
        });
        let full_name = (!self.parameters.is_empty()).then(|| {
            quote! {
                fn full_name() -> #rt::Cow<'static, str> {
                    #rt::full_name(Self::NAME, &[#(#kinds),*])
                }
            }
        });
        let methods = self.methods.iter().map(|method| {
            let name = method.name.to_string();
            let waits = method.waits;
            let access = if method.writes {
                quote!(Write)
            } else {
                quote!(Read)
            };
            let signature = text::signature(rt, method, |ty| self.on_client(ty));
            quote! {
                #rt::Method::new(#name, #rt::Access::#access, #waits).with_signature(&#signature)
            }
        });
        let described = self.parameters.iter().map(|parameter| {
            let name = parameter.name.to_string();
            let encoding = match parameter.sorted {
                true => quote!(Sorted),
                false => quote!(Sealed),
            };
            quote!(#rt::TypeParameter { name: #name, encoding: #rt::Encoding::#encoding })
        });
        quote! {
            impl<#(#parameters: #bounds + 'static),*> #rt::SharedType for #self_type {
                const NAME: &'static str = #name;
                const METHODS: &'static [#rt::Method] = &[#(#methods),*];
                const PARAMETERS: &'static [#rt::TypeParameter] = &[#(#described),*];
                type Proxy = #proxy<#(#parameters),*>;
                type Deferred = #deferred<#(#parameters),*>;
                #full_name
            }
        }
    }

    fn proxy(&self, rt: &TokenStream, face: Face) -> TokenStream {
        let type_name = &self.type_name;
        let self_type = &self.self_type;
        let proxy = face.name(type_name);
        let parameters: Vec<_> = self.parameters.iter().map(|p| &p.name).collect();
        let bounds = self.parameters.iter().map(|p| p.bound(rt));
        let documentation = face.documentation(type_name);
        let methods = self
            .methods
            .iter()
            .enumerate()
            .map(|(index, method)| self.proxy_method(rt, face, index, method));
        quote! {
            #[doc = #documentation]
            pub struct #proxy<#(#parameters),*> {
                target: #rt::Target,
                _types: ::core::marker::PhantomData<fn() -> #self_type>,
            }

            impl<#(#parameters),*> #rt::Proxy for #proxy<#(#parameters),*> {
                fn new(target: #rt::Target) -> Self {
                    #proxy { target, _types: ::core::marker::PhantomData }
                }

                fn target(&self) -> &#rt::Target {
                    &self.target
                }
            }

            #[allow(dead_code, private_interfaces, clippy::too_many_arguments, clippy::type_complexity, clippy::let_unit_value, clippy::len_without_is_empty, clippy::should_implement_trait, clippy::wrong_self_convention)]
            impl<#(#parameters: #bounds + 'static),*> #proxy<#(#parameters),*> {
                #(#methods)*
            }
        }
    }

    fn proxy_method(
        &self,
        rt: &TokenStream,
        face: Face,
        index: usize,
        method: &RemoteMethod,
    ) -> TokenStream {
        let RemoteMethod {
            documentation,
            visibility,
            name,
            parameters,
            ..
        } = method;
        let self_type = &self.self_type;
        let default_documentation = documentation.is_empty().then(|| {
            let text = format!("Calls `{}::{name}` on the object's server.", self.type_name);
            quote!(#[doc = #text])
        });
        let written = parameters.iter().map(|p| {
            let (name, ty) = (&p.name, self.on_client(&p.written));
            quote!(#name: #ty)
        });
        let values = parameters.iter().map(|p| {
            let name = &p.name;
            match self.on_wire(rt, &p.owned) {
                Some(wire) => quote!(#rt::ToWire::<#wire>::to_wire(#name)?),
                None => quote!(#name),
            }
        });
        // A sealed argument is taken by reference, whatever the signature says.
        let borrows = parameters
            .iter()
            .filter(|p| !p.is_reference() && self.on_wire(rt, &p.owned).is_some())
            .map(|p| {
                let name = &p.name;
                quote!(let #name = &#name;)
            });
        let result = self.on_client(&method.result);
        let decode = match self.on_wire(rt, &method.result) {
            Some(wire) => quote!(#rt::open::<#wire, #result>),
            None => quote!(#rt::decode::<#result>),
        };
        let method_info = quote!(&<#self_type as #rt::SharedType>::METHODS[#index]);
        let (output, body) = match face {
            Face::Blocking => (
                quote!(#rt::Result<#result>),
                quote! {
                    #(#borrows)*
                    self.target.call(#method_info, &(#(#values,)*), #decode)
                },
            ),
            Face::Deferred => (
                quote!(#rt::Pending<#result>),
                quote! {
                    #(#borrows)*
                    let arguments = || #rt::Result::Ok((#(#values,)*));
                    match arguments() {
                        ::core::result::Result::Ok(arguments) => {
                            self.target.start(#method_info, &arguments, #decode)
                        }
                        ::core::result::Result::Err(error) => #rt::Pending::failed(
                            &self.target, #method_info, error, #decode,
                        ),
                    }
                },
            ),
        };
        quote! {
            #(#documentation)*
            #default_documentation
            #visibility fn #name(&self #(, #written)*) -> #output {
                #body
            }
        }
    }

    fn dispatch(&self, rt: &TokenStream, method: &RemoteMethod) -> TokenStream {
        let name = &method.name;
        let what = format!("{}::{name}", self.type_name);
        let names: Vec<_> = method.parameters.iter().map(|p| &p.name).collect();
        let decoded = method.parameters.iter().map(|p| {
            self.on_wire(rt, &p.owned)
                .unwrap_or_else(|| self.on_server(rt, &p.owned).into_token_stream())
        });
        let opened = method.parameters.iter().filter_map(|p| {
            let (name, ty) = (&p.name, self.on_server(rt, &p.owned));
            let wire = self.on_wire(rt, &p.owned)?;
            Some(quote!(let #name: #ty = #rt::FromWire::<#wire>::from_wire(#name)?;))
        });
        let mut passed: Vec<_> = method.parameters.iter().map(Parameter::pass).collect();
        let [invocation, memory, result] = ["invocation", "memory", "result"].map(local);
        let (mut before, mut after) = (None, None);
        if method.caller {
            passed.push(quote!(#invocation.caller));
        }
        if let Some(parameter) = &method.ticket {
            let ty = self.on_server(rt, &parameter.memory);
            before = Some(quote! {
                let mut #memory: ::core::option::Option<#ty> = #rt::decode_ticket(#invocation.ticket)?;
            });
            after = Some(quote!(*#invocation.ticket = #rt::encode_ticket(&#memory)?;));
            passed.push(quote!(&mut #memory));
        }
        // The result as it travels.
        let sealed = self.on_wire(rt, &method.result);
        let sealed = sealed.map(|wire| quote!(#rt::ToWire::<#wire>::to_wire(&#result)));
        let succeeded = match (method.fallible, method.waits) {
            (false, _) => None,
            (true, false) => Some(quote!(let #result = #result?;)),
            (true, true) => Some(quote!(let #result = #rt::poll_ok(#result)?;)),
        };
        let finish = match (method.waits, sealed) {
            (true, Some(sealed)) => {
                quote!(#rt::finish_poll(#result, |#result| #sealed, #invocation.out))
            }
            (true, None) => quote!(#rt::finish_poll(#result, #rt::Result::Ok, #invocation.out)),
            (false, sealed) => {
                let wire = sealed.map_or(quote!(#result), |sealed| quote!(#sealed?));
                quote! {
                    #rt::encode_result(&#wire, #invocation.out)?;
                    ::core::result::Result::Ok(#rt::Poll::Ready(()))
                }
            }
        };
        quote! {
            let (#(#names,)*): (#(#decoded,)*) = #rt::decode_arguments(#what, #invocation.args)?;
            #(#opened)*
            #before
            let #result = Self::#name(self #(, #passed)*);
            #after
            #succeeded
            #finish
        }
    }

    /// All types that travel, as the user wrote them.
    fn written_types(&self) -> impl Iterator<Item = &Type> {
        self.methods.iter().flat_map(|method| {
            let parameters = method.parameters.iter().map(|p| &p.written);
            let memory = method.ticket.iter().map(|ticket| &ticket.memory);
            parameters.chain([&method.result]).chain(memory)
        })
    }

    /// The type as it is on the server: `T<Opaque, Opaque>`.
    fn served(&self, rt: &TokenStream) -> Type {
        let name = &self.type_name;
        if self.parameters.is_empty() {
            return self.self_type.clone();
        }
        let arguments = self.parameters.iter().map(|p| p.opaque(rt));
        syn::parse_quote!(#name<#(#arguments),*>)
    }

    /// A type of a signature, as the proxy writes it: `Self` is the shared type.
    fn on_client(&self, ty: &Type) -> Type {
        let mut ty = ty.clone();
        substitute(&mut ty, &[format_ident!("Self")], &self.self_type);
        ty
    }

    /// As the server has it: parameters are opaque.
    fn on_server(&self, rt: &TokenStream, ty: &Type) -> Type {
        let mut ty = self.on_client(ty);
        for parameter in &self.parameters {
            let name = std::slice::from_ref(&parameter.name);
            substitute(&mut ty, name, &parameter.opaque(rt));
        }
        ty
    }

    /// As it travels, if it mentions parameters: they are sealed.
    fn on_wire(&self, rt: &TokenStream, ty: &Type) -> Option<TokenStream> {
        let mut ty = self.on_client(ty);
        let mut any = false;
        for parameter in &self.parameters {
            let name = std::slice::from_ref(&parameter.name);
            any |= substitute(&mut ty, name, &parameter.sealed(rt));
        }
        any.then(|| ty.into_token_stream())
    }
}

/// The two proxies.
#[derive(Clone, Copy)]
enum Face {
    Blocking,
    Deferred,
}

impl Face {
    fn name(self, type_name: &Ident) -> Ident {
        match self {
            Face::Blocking => format_ident!("{type_name}Proxy"),
            Face::Deferred => format_ident!("{type_name}Deferred"),
        }
    }

    fn documentation(self, type_name: &Ident) -> String {
        match self {
            Face::Blocking => format!(
                "What `Shared<{type_name}>` dereferences to. Each method is a call on the object's server, \
                 and blocks until its result is back."
            ),
            Face::Deferred => format!(
                "What `Shared::<{type_name}>::deferred` returns. Each method sends a call, and returns at once."
            ),
        }
    }
}

/// The names of the impl's type parameters.
fn type_parameters(block: &ItemImpl) -> Result<Vec<Ident>> {
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
fn type_name(self_type: &Type, parameters: &[Ident]) -> Result<Ident> {
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

/// A variable of the expansion, which the user's parameters of the same name do not hide.
fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// `MethodId::of`.
fn fnv(name: &Ident) -> u32 {
    name.to_string().bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}
