//! No circles between the files of a crate.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::imports::{self, Need};
use super::report::Violation;
use super::source::Target;

const RULE: &str = "circles";
/// The number of circles that are printed of those that share files: each names an import that could go.
const PRINTED_MAX: usize = 5;

type Needs = BTreeMap<(usize, usize), Need>;

pub fn check(target: &Target) -> Vec<Violation> {
    let needs = imports::needs(target);
    let edges: BTreeSet<(usize, usize)> = needs.keys().copied().collect();
    let mut found = Vec::new();
    for group in groups(target.files.len(), &edges) {
        let inner: BTreeSet<(usize, usize)> = edges
            .iter()
            .copied()
            .filter(|(from, to)| group.contains(from) && group.contains(to))
            .collect();
        let circles = circles(&inner);
        let size = group.len();
        for (index, circle) in circles.iter().take(PRINTED_MAX).enumerate() {
            found.push(violation(
                target,
                &needs,
                circle,
                (index, circles.len(), size),
            ));
        }
    }
    found
}

fn violation(
    target: &Target,
    needs: &Needs,
    circle: &[usize],
    (index, of, size): (usize, usize, usize),
) -> Violation {
    let short = |file: usize| {
        let path = &target.files[file].path;
        path.strip_prefix(&target.folder)
            .unwrap_or(path)
            .display()
            .to_string()
    };
    let mut steps = String::new();
    for (at, from) in circle.iter().enumerate() {
        let to = circle[(at + 1) % circle.len()];
        let Need { line, path } = &needs[&(*from, to)];
        steps += &format!("{}:{line} -[{path}]-> ", short(*from));
    }
    steps += &short(circle[0]);
    let group = match (index, of) {
        (_, 1) => String::new(),
        (0, _) => format!(" ({size} files need each other, in {of} circles or more)"),
        _ => " (of the same files)".to_owned(),
    };
    let message =
        format!("{steps}{group}; move what both need to a file below them, or join the files");
    let line = needs[&(circle[0], circle[1])].line;
    Violation::new(RULE, &target.files[circle[0]].path, line, message)
}

/// Files that reach each other, in groups of two and more.
fn groups(files: usize, edges: &BTreeSet<(usize, usize)>) -> Vec<BTreeSet<usize>> {
    let reach: Vec<BTreeSet<usize>> = (0..files).map(|file| reached(file, edges)).collect();
    let mut groups: Vec<BTreeSet<usize>> = Vec::new();
    for file in 0..files {
        if groups.iter().any(|group| group.contains(&file)) {
            continue;
        }
        let group: BTreeSet<usize> = reach[file]
            .iter()
            .copied()
            .filter(|other| reach[*other].contains(&file))
            .collect();
        if group.len() > 1 {
            groups.push(group);
        }
    }
    groups
}

fn reached(file: usize, edges: &BTreeSet<(usize, usize)>) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open = vec![file];
    while let Some(from) = open.pop() {
        for (_, to) in edges.range((from, 0)..(from + 1, 0)) {
            if found.insert(*to) {
                open.push(*to);
            }
        }
    }
    found
}

/// For each edge the shortest circle that it is part of, each circle once, the shortest first.
fn circles(edges: &BTreeSet<(usize, usize)>) -> Vec<Vec<usize>> {
    let mut found = BTreeSet::new();
    for (from, to) in edges {
        let Some(mut circle) = way(*to, *from, edges) else {
            continue;
        };
        // The smallest file first, so that each circle has one form.
        let first = circle
            .iter()
            .enumerate()
            .min_by_key(|(_, file)| **file)
            .map_or(0, |(at, _)| at);
        circle.rotate_left(first);
        found.insert((circle.len(), circle));
    }
    found.into_iter().map(|(_, circle)| circle).collect()
}

/// The shortest way from a file to another one, both included.
fn way(from: usize, to: usize, edges: &BTreeSet<(usize, usize)>) -> Option<Vec<usize>> {
    let mut came_from = BTreeMap::from([(from, from)]);
    let mut open = VecDeque::from([from]);
    while let Some(file) = open.pop_front() {
        if file == to {
            let mut way = vec![to];
            let mut at = to;
            while at != from {
                at = came_from[&at];
                way.push(at);
            }
            way.reverse();
            return Some(way);
        }
        for (_, next) in edges.range((file, 0)..(file + 1, 0)) {
            if !came_from.contains_key(next) {
                came_from.insert(*next, file);
                open.push_back(*next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::check;
    use crate::house::report::Violation;
    use crate::house::source::Target;

    fn found(files: &[(&str, &str)]) -> Vec<Violation> {
        let read = |path: &Path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        };
        check(&Target::parse(Path::new("x"), Path::new("x/lib.rs"), &read).unwrap())
    }

    #[test]
    fn a_circle_is_a_path() {
        let found = found(&[
            ("x/lib.rs", "mod a; mod b; mod c;"),
            ("x/a.rs", "use crate::b::B; pub struct A(B);"),
            ("x/b.rs", "\npub struct B(crate::c::C);"),
            ("x/c.rs", "\n\npub struct C(super::a::A);"),
        ]);
        let [circle] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(
            (circle.path.as_path(), circle.line),
            (Path::new("x/a.rs"), 1)
        );
        let steps = "a.rs:1 -[crate::b::B]-> b.rs:2 -[crate::c::C]-> c.rs:3 -[super::a::A]-> a.rs";
        assert!(circle.message.starts_with(steps), "{circle}");
    }

    #[test]
    fn a_parent_that_declares_is_not_part_of_one() {
        let inner = ("x/a.rs", "use super::b::B; pub struct A(B);");
        let b = ("x/b.rs", "pub struct B;");
        assert_eq!(
            found(&[("x/lib.rs", "mod a; mod b; pub use a::A;"), inner, b]),
            []
        );
    }

    #[test]
    fn a_parent_whose_items_its_child_needs_is() {
        let child = ("x/a.rs", "pub struct A(super::Own);");
        assert_eq!(found(&[("x/lib.rs", "mod a; struct Own;"), child]), []);
        let found = found(&[("x/lib.rs", "mod a; struct Own; fn f(_: a::A) {}"), child]);
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn circles_with_common_files_are_told_apart() {
        let found = found(&[
            ("x/lib.rs", "mod a; mod b; mod c;"),
            ("x/a.rs", "use crate::{b::B, c::C}; pub struct A(B, C);"),
            ("x/b.rs", "pub struct B(crate::a::A);"),
            ("x/c.rs", "pub struct C(crate::a::A);"),
        ]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0]
                .message
                .contains("3 files need each other, in 2 circles")
        );
    }
}
