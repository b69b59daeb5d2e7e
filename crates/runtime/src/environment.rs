//! The variables of the environment that have a meaning, and what is said of others that look as if they had.

use std::ffi::OsStr;

use crate::modules::MODULE_VARIABLE;
use crate::output;

/// How the names of all begin.
const PREFIX: &str = "CRUCIAL_";

/// The settings of a program.
const SETTINGS: [&str; 12] = [
    "CRUCIAL_CLUSTER",
    "CRUCIAL_CONCURRENCY",
    "CRUCIAL_LEASE_MS",
    "CRUCIAL_MEMORY_MB",
    MODULE_VARIABLE,
    "CRUCIAL_NAMESPACE",
    "CRUCIAL_PATIENCE_S",
    "CRUCIAL_PLATFORM",
    "CRUCIAL_REPLICAS",
    "CRUCIAL_RUN",
    "CRUCIAL_SPIN_US",
    "CRUCIAL_TIME_LIMIT_S",
];

/// Set for other processes: by a platform for its workers, and by `crucial mutex run` for its command.
const OWN: [&str; 4] = [
    "CRUCIAL_LOCAL_PLATFORM",
    "CRUCIAL_LOCAL_WORKER",
    "CRUCIAL_PAYLOAD_BYTES_MAX",
    "CRUCIAL_TOKEN",
];

/// How many letters of a name may be wrong for it to be taken for one that there is.
const WRONG_MAX: usize = 3;

/// Tells the user of variables that have no effect, since no setting has their name.
pub(crate) fn note_unknown() {
    let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    if let Some(said) = unknown(names.iter().map(|name| &**name)) {
        output::note(format_args!("{said}"));
    }
}

fn unknown<'a>(names: impl Iterator<Item = &'a OsStr>) -> Option<String> {
    let is_known = |name: &str| SETTINGS.contains(&name) || OWN.contains(&name);
    let mut unknown: Vec<String> = names
        .map(OsStr::to_string_lossy)
        .filter(|name| name.starts_with(PREFIX) && !is_known(name))
        .map(|name| match nearest(&name) {
            Some(setting) => format!("{name} (is {setting} meant?)"),
            None => name.into_owned(),
        })
        .collect();
    if unknown.is_empty() {
        return None;
    }
    unknown.sort();
    Some(format!(
        "no setting has this name, so that it has no effect: {}",
        unknown.join(", ")
    ))
}

/// The setting whose name is nearly this one, or begins or ends as it.
fn nearest(name: &str) -> Option<&'static str> {
    if name == PREFIX {
        return None;
    }
    let distances = SETTINGS.map(|setting| {
        let is_part = setting.starts_with(name) || name.starts_with(setting);
        let distance = match is_part {
            true => 1,
            false => strsim::damerau_levenshtein(name, setting),
        };
        (distance, setting)
    });
    let (distance, setting) = distances.into_iter().min()?;
    (distance <= WRONG_MAX).then_some(setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_setting_is_said_with_the_nearest_one() {
        let said = |names: &[&'static str]| unknown(names.iter().map(|name| OsStr::new(*name)));
        assert_eq!(said(&["PATH", "CRUCIAL", "CRUCIAL_TOKEN"]), None);
        assert_eq!(said(&SETTINGS), None);
        for (name, meant) in [
            ("CRUCIAL_CONCURENCY", "CRUCIAL_CONCURRENCY"),
            ("CRUCIAL_PATIENCE", "CRUCIAL_PATIENCE_S"),
            ("CRUCIAL_MEMORY", "CRUCIAL_MEMORY_MB"),
            ("CRUCIAL_CLUSTERS", "CRUCIAL_CLUSTER"),
            ("CRUCIAL_LEASE", "CRUCIAL_LEASE_MS"),
            ("CRUCIAL_LEASE_SM", "CRUCIAL_LEASE_MS"),
        ] {
            let said = said(&[name]).unwrap();
            assert!(
                said.ends_with(&format!("{name} (is {meant} meant?)")),
                "{said}"
            );
        }
        let far = said(&["CRUCIAL_SOMETHING_ELSE", "CRUCIAL_"]).unwrap();
        assert!(far.ends_with(": CRUCIAL_, CRUCIAL_SOMETHING_ELSE"), "{far}");
    }
}
