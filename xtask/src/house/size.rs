//! No file is too long, and no function has too many parameters.

use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{FnArg, Signature, Type};

use super::report::Violation;
use super::rules::Rules;
use super::source::Target;

pub fn check_lines(path: &Path, text: &str, rules: &Rules) -> Option<Violation> {
    let (lines, max) = (text.lines().count(), rules.limits.file_lines);
    if lines <= max || rules.is_exception("size", path, "") {
        return None;
    }
    let message = format!(
        "{lines} lines, and {max} is the most: split it where its parts have names of their own"
    );
    Some(Violation::new("size", path, 0, message))
}

pub fn check_parameters(target: &Target, rules: &Rules) -> Vec<Violation> {
    let mut found = Vec::new();
    for module in &target.modules {
        let path = &target.files[module.file].path;
        if rules.is_exception("parameters", path, "") {
            continue;
        }
        for item in &module.items {
            let mut functions = Functions {
                max: rules.limits.parameters,
                found: Vec::new(),
            };
            functions.visit_item(item);
            silenced(item.to_token_stream(), &mut functions.found);
            found.extend(
                functions
                    .found
                    .into_iter()
                    .map(|(line, what)| Violation::new("parameters", path, line, what)),
            );
        }
    }
    found
}

struct Functions {
    max: usize,
    found: Vec<(usize, String)>,
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_signature(&mut self, signature: &'ast Signature) {
        let count = signature.inputs.iter().map(parameters).sum::<usize>();
        if count > self.max {
            let (name, max) = (&signature.ident, self.max);
            let what = format!(
                "{name} has {count} parameters, and {max} is the most: make a struct of what belongs together"
            );
            self.found.push((name.span().start().line, what));
        }
        visit::visit_signature(self, signature);
    }
}

/// How many parameters an input is: none if it is `self`, and a tuple each of its elements.
fn parameters(input: &FnArg) -> usize {
    match input {
        FnArg::Receiver(_) => 0,
        FnArg::Typed(input) => match &*input.ty {
            Type::Tuple(tuple) => tuple.elems.len(),
            _ => 1,
        },
    }
}

/// Finds attributes that silence clippy on this, also such that a macro writes.
fn silenced(tokens: TokenStream, found: &mut Vec<(usize, String)>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => silenced(group.stream(), found),
            TokenTree::Ident(ident) if ident == "too_many_arguments" => {
                let what = "clippy::too_many_arguments is not silenced: make a struct of what belongs together";
                found.push((ident.span().start().line, what.to_owned()));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{check_lines, check_parameters};
    use crate::house::rules::Rules;
    use crate::house::source::Target;

    fn rules() -> Rules {
        Rules::of_test(
            r#"
            limits = { file_lines = 3, parameters = 2, markdown_columns = 1 }
            exceptions = [{ rule = "size", path = "generated", reason = "a table" }]
            "#,
        )
    }

    fn found(source: &str) -> Vec<usize> {
        let read = |_: &Path| Some(source.to_owned());
        let target = Target::parse(Path::new("x"), Path::new("x/src/lib.rs"), &read).unwrap();
        check_parameters(&target, &rules())
            .into_iter()
            .map(|violation| violation.line)
            .collect()
    }

    #[test]
    fn parameters_count_without_self() {
        assert_eq!(
            found("fn f(a: u8, b: u8) {}\nfn g(a: u8, b: u8, c: u8) {}"),
            [2]
        );
        assert_eq!(
            found("impl A { fn f(&self, a: u8, b: u8) {}\nfn g(self, a: u8, b: u8, c: u8) {} }"),
            [2]
        );
        assert_eq!(found("trait A {\nfn g(a: u8, b: u8, c: u8); }"), [2]);
        assert_eq!(found("fn f() {\n fn g(a: u8, b: u8, c: u8) {} }"), [2]);
        assert_eq!(found("#[cfg(test)] fn g(a: u8, b: u8, c: u8) {}"), [0; 0]);
    }

    #[test]
    fn the_elements_of_a_tuple_are_parameters() {
        assert_eq!(found("fn f((a, b): (u8, u8)) {}"), [0; 0]);
        assert_eq!(found("\nfn f((a, b): (u8, u8), c: u8) {}"), [2]);
        assert_eq!(found("\nfn f(a: (u8, u8, u8)) {}"), [2]);
        assert_eq!(found("fn f(a: u8, _: (), b: Vec<(u8, u8)>) {}"), [0; 0]);
    }

    #[test]
    fn clippy_is_not_silenced() {
        assert_eq!(
            found("\n#[expect(clippy::too_many_arguments)]\nfn f() {}"),
            [2]
        );
        assert_eq!(
            found("fn f() {\nquote! { #[allow(a, clippy::too_many_arguments)] } }"),
            [2]
        );
    }

    #[test]
    fn long_files_are_found() {
        let lines = |path: &str, text| check_lines(Path::new(path), text, &rules()).is_some();
        assert!(!lines("a.rs", "1\n2\n3\n"));
        assert!(lines("a.rs", "1\n2\n3\n4\n"));
        assert!(!lines("generated/a.rs", "1\n2\n3\n4\n"));
    }
}
