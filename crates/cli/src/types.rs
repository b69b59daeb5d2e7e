//! `crucial types`: the shared types of this executable, and how their methods are called from any language.

use clap::{Arg, ArgMatches, Command};
use crucial_object::describe::{Catalog, MethodEntry, TypeEntry, catalog};

use super::print;

/// The command.
pub fn command() -> Command {
    Command::new("types")
        .about("Lists the shared types of this executable, with each method's number, arguments and result")
        .arg(
            Arg::new("type")
                .value_name("TYPE")
                .help("Only this type; without `crucial::` for one of the library"),
        )
}

/// Prints the types. No server is asked.
pub fn run(matches: &ArgMatches) -> Result<(), String> {
    let mut catalog = catalog();
    if let Some(name) = matches.get_one::<String>("type") {
        select(&mut catalog, name)?;
    }
    let lines = match matches.get_flag("json") {
        true => vec![serde_json::to_string(&catalog).map_err(|error| error.to_string())?],
        false => table(&catalog),
    };
    print::lines(lines)
        .map(drop)
        .map_err(|error| error.to_string())
}

fn select(catalog: &mut Catalog, name: &str) -> Result<(), String> {
    let is_meant = |entry: &TypeEntry| {
        entry.name == name || entry.name.strip_prefix("crucial::") == Some(name)
    };
    catalog.types.retain(is_meant);
    match catalog.types.is_empty() {
        true => Err(format!(
            "this executable has no type {name}: `crucial types` lists those that it has"
        )),
        false => Ok(()),
    }
}

/// A paragraph for each type: its name, its state, and a line for each method.
fn table(catalog: &Catalog) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in &catalog.types {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.push(entry.title());
        if let Some(state) = entry.state {
            let fields: Vec<_> = state.iter().map(ToString::to_string).collect();
            lines.push(format!("  state: {}", fields.join(", ")));
        }
        let calls: Vec<_> = entry.methods.iter().map(call).collect();
        let width = calls.iter().map(|call| call.chars().count()).max();
        for (method, call) in entry.methods.iter().zip(&calls) {
            let line = format!(
                "  {:#010x}  {call:width$}  {}",
                method.number,
                method.traits(),
                width = width.unwrap_or(0)
            );
            lines.push(line.trim_end().to_owned());
        }
    }
    lines
}

/// `fetch_add(value: i64) -> i64`
fn call(method: &MethodEntry) -> String {
    let call = format!("{}({})", method.name, method.argument_list());
    match method.result {
        "()" => call,
        result => format!("{call} -> {result}"),
    }
}
