//! Which packages may depend on what.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::report::Violation;
use super::rules::{FILE, Rules};
use super::source::Target;

const RULE: &str = "layout";

/// A package of the workspace, as cargo sees it.
#[derive(Deserialize)]
pub struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    features: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev` or `build`, or of the code itself.
    kind: Option<String>,
}

/// What cargo says of the workspace's packages.
pub fn packages(root: &Path) -> Result<Vec<Package>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = [
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version",
        "1",
    ];
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(root)
        .output();
    let output = output.map_err(|e| format!("cargo metadata: {e}"))?;
    if !output.status.success() {
        return Err(format!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let mut packages = parse(&output.stdout)?;
    for package in &mut packages {
        if let Ok(path) = package.manifest_path.strip_prefix(root) {
            package.manifest_path = path.to_owned();
        }
    }
    Ok(packages)
}

fn parse(metadata: &[u8]) -> Result<Vec<Package>, String> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let metadata: Metadata =
        serde_json::from_slice(metadata).map_err(|e| format!("cargo metadata: {e}"))?;
    Ok(metadata.packages)
}

pub fn check(packages: &[Package], targets: &[Target], rules: &Rules) -> Vec<Violation> {
    let mut found = Vec::new();
    let get = |name: &str| packages.iter().find(|package| package.name == name);
    let missing = |name: &str| {
        let message =
            format!("a rule is about the package {name}, which the workspace does not have");
        Violation::new(RULE, Path::new(FILE), 0, message)
    };
    for pure in &rules.pure {
        let names = &pure.packages;
        let Some(package) = names.iter().find_map(|name| get(name)) else {
            found.push(missing(&names.join(" or ")));
            continue;
        };
        for name in package
            .needs()
            .filter(|name| !pure.dependencies.contains(name))
        {
            let message = format!(
                "{} does no I/O, and {name} is not in the list of what it may depend on ({FILE})",
                package.name
            );
            found.push(package.violation(message));
        }
    }
    match get(&rules.server.package) {
        Some(package) => found.extend(check_server(package, packages, targets, rules)),
        None => found.push(missing(&rules.server.package)),
    }
    found
}

fn check_server(
    server: &Package,
    packages: &[Package],
    targets: &[Target],
    rules: &Rules,
) -> Vec<Violation> {
    let mut found = Vec::new();
    for feature in server.features.keys() {
        let message = format!(
            "{} has no features, and here is {feature:?}: what is optional is injected",
            server.name
        );
        found.push(server.violation(message));
    }
    for name in server.needs().filter(|name| **name != rules.server.from) {
        let Some(package) = packages.iter().find(|package| package.name == *name) else {
            continue;
        };
        for target in targets
            .iter()
            .filter(|target| Some(target.folder.as_path()) == package.manifest_path.parent())
        {
            for module in &target.modules {
                for kind in module
                    .public
                    .iter()
                    .filter(|kind| rules.server.types.contains(kind))
                {
                    let path = target.files[module.file].path.display();
                    let message = format!(
                        "{} depends on {name}, which defines {kind} ({path}): only {} may",
                        server.name, rules.server.from
                    );
                    found.push(server.violation(message));
                }
            }
        }
    }
    found
}

impl Package {
    /// What its code depends on; tests are free.
    fn needs(&self) -> impl Iterator<Item = &String> {
        let normal = self
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind.as_deref() != Some("dev"));
        normal.map(|dependency| &dependency.name)
    }

    fn violation(&self, message: String) -> Violation {
        Violation::new(RULE, &self.manifest_path, 0, message)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{check, parse};
    use crate::house::rules::Rules;
    use crate::house::source::Target;

    const RULES: &str = r#"
        server = { package = "server", types = ["Cell"], from = "node" }
        [[pure]]
        packages = ["node", "knot"]
        dependencies = ["bytes"]
    "#;

    fn found(packages: &str, source: &str) -> Vec<String> {
        let packages = parse(format!("{{\"packages\": [{packages}]}}").as_bytes()).unwrap();
        let read = |_: &Path| Some(source.to_owned());
        let core = Target::parse(Path::new("core"), Path::new("core/src/lib.rs"), &read).unwrap();
        let found = check(&packages, &[core], &Rules::of_test(RULES));
        found
            .into_iter()
            .map(|violation| violation.to_string())
            .collect()
    }

    fn package(name: &str, needs: &[(&str, &str)], features: &str) -> String {
        let needs: Vec<String> = needs
            .iter()
            .map(|(name, kind)| format!(r#"{{"name": "{name}", "kind": {kind}}}"#))
            .collect();
        format!(
            r#"{{"name": "{name}", "manifest_path": "{name}/Cargo.toml", "dependencies": [{}], "features": {{{features}}}}}"#,
            needs.join(", ")
        )
    }

    #[test]
    fn the_layout_that_is_meant_has_no_violation() {
        let node = package("node", &[("bytes", "null"), ("tempfile", "\"dev\"")], "");
        let server = package(
            "server",
            &[("node", "null"), ("core", "null"), ("mio", "null")],
            "",
        );
        let core = package("core", &[], "");
        assert_eq!(
            found(
                &format!("{node}, {server}, {core}"),
                "struct Cell; pub struct Cells;"
            ),
            [""; 0]
        );
    }

    #[test]
    fn dependencies_features_and_definitions_are_found() {
        let node = package("node", &[("mio", "null"), ("cc", "\"build\"")], "");
        let server = package("server", &[("core", "null")], r#""cluster": []"#);
        let core = package("core", &[], "");
        let found = found(&format!("{node}, {server}, {core}"), "pub struct Cell;");
        let [mio, cc, feature, cell] = &found[..] else {
            panic!("{found:?}")
        };
        assert!(
            mio.starts_with("node/Cargo.toml: layout: node does no I/O, and mio"),
            "{mio}"
        );
        assert!(cc.contains("cc"), "{cc}");
        assert!(feature.contains("\"cluster\""), "{feature}");
        assert!(
            cell.contains("core, which defines Cell (core/src/lib.rs)"),
            "{cell}"
        );
    }

    #[test]
    fn a_rule_about_nothing_is_found() {
        assert_eq!(found("", "").len(), 2);
    }
}
