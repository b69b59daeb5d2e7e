//! `#[shared]`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, FnArg, Ident, ImplItem, ImplItemFn, ItemImpl, Result, Type};

use crate::generics::{type_name, type_parameters};
use crate::method::{self, RemoteMethod, take_only};
use crate::options::Options;
use crate::refusals::Refusals;
use crate::signature::{self, Parameter, substitute};
use crate::{sizes, text, travel};

pub fn expand(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let mut refusals = Refusals::default();
    let options = refusals.of(Options::parse(options));
    let mut block: ItemImpl = signature::parse(
        item,
        "#[shared] goes on the type's `impl` block, the one that holds its remote methods",
    )?;
    // What is refused as a whole has no methods to look at.
    let shared = SharedImpl::parse(&mut block, options.unwrap_or_default(), &mut refusals);
    let shared = refusals.of(shared);
    let warnings = shared
        .iter()
        .map(|shared| sizes::warn(shared.written_types(), &block.attrs));
    let warnings: TokenStream = warnings.collect();
    let generated = shared.iter().map(SharedImpl::generate);
    let generated: TokenStream = generated.collect();
    let refusals = refusals.into_compile_errors();
    Ok(quote! {
        #block
        #generated
        #warnings
        #refusals
    })
}

/// An impl block, read.
struct SharedImpl {
    options: Options,
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
    /// Reads the block, and takes the macro's own attributes out of it. A method that is refused is left out.
    fn parse(
        block: &mut ItemImpl,
        options: Options,
        refusals: &mut Refusals,
    ) -> Result<SharedImpl> {
        let header = SharedImpl::header(block, options);
        if header.is_err() {
            block.items.iter_mut().for_each(method::strip);
        }
        let mut shared = header?;
        for item in &mut block.items {
            if let ImplItem::Fn(function) = item {
                refusals.of(shared.add(function));
            }
            method::strip(item);
        }
        Ok(shared)
    }

    /// The type and its parameters, without methods.
    fn header(block: &ItemImpl, options: Options) -> Result<SharedImpl> {
        if let Some((path, _)) = &block.trait_ {
            return Err(Error::new_spanned(
                path,
                "#[shared] goes on the type's own impl block: trait methods are not remote",
            ));
        }
        let mut refusals = Refusals::default();
        let parameters = type_parameters(block)?;
        if let (Some(previous), false) = (&options.previous, parameters.is_empty()) {
            refusals.add(Error::new_spanned(
                previous,
                "`previous` is for types without parameters: a server cannot convert what it does not know",
            ));
        }
        let type_name = type_name(&block.self_ty, &parameters)?;
        for stranger in options
            .sorted
            .iter()
            .filter(|name| !parameters.contains(name))
        {
            refusals.add(Error::new_spanned(
                stranger,
                "`sorted` names a type parameter of the impl block",
            ));
        }
        refusals.finish()?;
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
            options,
            methods: Vec::new(),
            wake: None,
            valid: None,
            departed: None,
        })
    }

    /// Reads a function of the block.
    fn add(&mut self, function: &mut ImplItemFn) -> Result<()> {
        if take_only(function, "wake", &mut self.wake)?
            || take_only(function, "departed", &mut self.departed)?
            || take_only(function, "valid", &mut self.valid)?
        {
            return Ok(());
        }
        let Some(FnArg::Receiver(_)) = function.sig.inputs.first() else {
            return Ok(());
        };
        let method = RemoteMethod::parse(function)?;
        let mut others = self.methods.iter();
        if let Some(other) = others.find(|other| fnv(&other.name) == fnv(&method.name)) {
            return Err(Error::new_spanned(
                &method.name,
                format!(
                    "the methods {} and {} have the same id: rename one",
                    other.name, method.name
                ),
            ));
        }
        self.methods.push(method);
        Ok(())
    }

    fn generate(&self) -> TokenStream {
        let root = &self.options.root;
        let rt = quote!(#root::__private);
        let served = self.served(&rt);
        let invocation = local("invocation");
        let shared_type = self.shared_type(&rt);
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
                    if let ::core::option::Option::Some(ticket) = (&#rt::Codec::<#memory>::new()).decode_ticket(&ticket)? {
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
        let previous = self.options.previous.iter().map(|previous| {
            let span = previous.span();
            quote_spanned! {span=>
                fn restore_older(state: &[u8]) -> #rt::Result<Self> {
                    #rt::restore_previous::<#previous, Self>(state)
                }
            }
        });
        let assertions = travel::assert(
            &rt,
            self.travelling(&rt).iter().map(|(span, ty)| (*span, ty)),
        );
        quote! {
            #shared_type
            #proxy
            #deferred
            #assertions

            #[allow(deprecated, unused_variables, clippy::let_unit_value, clippy::needless_borrow, clippy::unit_arg)]
            impl #rt::Object for #served {
                #(#departed)*
                #(#previous)*

                fn dispatch(&mut self, #invocation: #rt::Invocation<'_>) -> #rt::Result<#rt::Poll<()>> {
                    use #rt::{Decodes as _, DecodesRefused as _, Encodes as _, EncodesRefused as _};
                    match #invocation.index {
                        #(#dispatch)*
                        _ => ::core::unreachable!("a method index comes from METHODS"),
                    }
                }

                fn cancel(&mut self, index: usize, ticket: #rt::Ticket) -> #rt::Result<()> {
                    use #rt::{Decodes as _, DecodesRefused as _};
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

    fn shared_type(&self, rt: &TokenStream) -> TokenStream {
        let type_name = &self.type_name;
        let self_type = &self.self_type;
        let (proxy, deferred) = (
            Face::Blocking.name(type_name),
            Face::Deferred.name(type_name),
        );
        let parameters: Vec<_> = self.parameters.iter().map(|p| &p.name).collect();
        let bounds = self.parameters.iter().map(|p| p.bound(rt));
        let name = match &self.options.name {
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
        // A generic type is encoded only if the bounds of its parameters are enough.
        let state = match self.parameters.is_empty() {
            true => quote! {
                use #rt::{Encodes as _, EncodesRefused as _};
                (&#rt::Codec::of(self)).encode(self)
            },
            false => quote!(#rt::encode(self)),
        };
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

                #[allow(clippy::needless_borrow)]
                fn state(&self) -> #rt::Result<::std::vec::Vec<u8>> {
                    #state
                }
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
            #[doc(hidden)]
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

            #[allow(dead_code, private_interfaces, clippy::too_many_arguments, clippy::type_complexity, clippy::let_unit_value, clippy::needless_borrow, clippy::len_without_is_empty, clippy::should_implement_trait, clippy::wrong_self_convention)]
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
        // Examples stand where the method is, and are run there.
        let whose = format!("Calls `{}::{name}` on the object's server.", self.type_name);
        let summary = text::summary(documentation);
        let deprecated = documentation
            .iter()
            .filter(|a| a.path().is_ident("deprecated"));
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
            None => quote!(|bytes: &[u8]| (&#rt::Codec::<#result>::new()).decode(bytes)),
        };
        let method_info = quote!(&<#self_type as #rt::SharedType>::METHODS[#index]);
        let arguments = local("arguments");
        let encoded = quote! {
            let #arguments = (#(#values,)*);
            (&#rt::Codec::of(&#arguments)).encode(&#arguments)
        };
        let (output, call) = match face {
            Face::Blocking => (quote!(#rt::Result<#result>), quote!(call)),
            Face::Deferred => (quote!(#rt::Pending<#result>), quote!(start)),
        };
        let body = quote! {
            use #rt::{Decodes as _, DecodesRefused as _, Encodes as _, EncodesRefused as _};
            #(#borrows)*
            let #arguments = (|| { #encoded })();
            self.target.#call(#method_info, #arguments, #decode)
        };
        quote! {
            #[doc = #summary]
            #[doc = ""]
            #[doc = #whose]
            #(#deprecated)*
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
                let mut #memory: ::core::option::Option<#ty> =
                    (&#rt::Codec::<#ty>::new()).decode_ticket(#invocation.ticket)?;
            });
            after = Some(quote! {
                *#invocation.ticket = (&#rt::Codec::<#ty>::new()).encode_ticket(&#memory)?;
            });
            passed.push(quote!(&mut #memory));
        }
        // The result as it travels.
        let encode = match self.on_wire(rt, &method.result) {
            Some(wire) => quote! {
                (&#rt::Codec::<#wire>::new())
                    .encode_into(&#rt::ToWire::<#wire>::to_wire(&#result)?, #invocation.out)
            },
            None => {
                let ty = self.on_client(&method.result);
                quote!((&#rt::Codec::<#ty>::new()).encode_into(&#result, #invocation.out))
            }
        };
        let succeeded = match (method.fallible, method.waits) {
            (false, _) => None,
            (true, false) => Some(quote!(let #result = #result?;)),
            (true, true) => Some(quote!(let #result = #rt::poll_ok(#result)?;)),
        };
        let finish = match method.waits {
            true => quote!(#rt::finish_poll(#result, |#result| #encode)),
            false => quote!((#encode).map(#rt::Poll::Ready)),
        };
        quote! {
            let (#(#names,)*) = (&#rt::Codec::<(#(#decoded,)*)>::new()).decode_arguments(#what, #invocation.args)?;
            #(#opened)*
            #before
            let #result = Self::#name(self #(, #passed)*);
            #after
            #succeeded
            #finish
        }
    }

    /// All types that travel or are kept with a call, as the other end has them: a sealed one as it is on the wire.
    fn travelling(&self, rt: &TokenStream) -> Vec<(Span, Type)> {
        let on_way = |span, ty: &Type| match self.on_wire(rt, ty) {
            Some(wire) => (span, syn::parse_quote!(#wire)),
            None => (span, self.on_client(ty)),
        };
        self.methods
            .iter()
            .flat_map(|method| {
                let arguments = method.parameters.iter().map(|p| on_way(p.span(), &p.owned));
                let result = on_way(method.result.span(), &method.result);
                let memory = method.ticket.iter().map(|ticket| {
                    let ty = &ticket.memory;
                    (ty.span(), self.on_server(rt, ty))
                });
                arguments.chain([result]).chain(memory).collect::<Vec<_>>()
            })
            .collect()
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
