//! The Santa Claus problem (Trono 1994; paper §6.3.3): its numbers, and the check of its rules.
//!
//! Santa sleeps until all nine reindeer are back from their holidays, or three of ten elves want to consult him.
//! Reindeer have priority. Santa delivers toys with the reindeer, or talks with the elves. No member of a group begins
//! before all have arrived, or leaves before all are done.

use std::collections::BTreeSet;

pub use crucial_example_types::santa::{Event, Kind};

/// Number of reindeer, all of which deliver toys.
pub const REINDEER: u64 = 9;
/// Number of elves.
pub const ELVES: u64 = 10;
/// How many elves consult Santa at a time.
pub const ELVES_AT_A_TIME: u64 = 3;

/// Checks the rules. The error says which rule was broken.
pub fn check(events: &[Event], deliveries: u64) -> Result<String, String> {
    let teams = |kind: Kind| {
        let mut teams: Vec<BTreeSet<u64>> = Vec::new();
        for event in events.iter().filter(|event| event.kind == kind) {
            let round = event.round as usize;
            teams.resize_with(teams.len().max(round + 1), BTreeSet::new);
            if !teams[round].insert(event.helper) {
                return Err(format!("{event:?} happened twice"));
            }
        }
        Ok(teams)
    };
    let (sleighs, consultations) = (teams(Kind::Reindeer)?, teams(Kind::Elf)?);
    if sleighs.len() as u64 != deliveries {
        return Err(format!("{} deliveries, not {deliveries}", sleighs.len()));
    }
    for (teams, size) in [(&sleighs, REINDEER), (&consultations, ELVES_AT_A_TIME)] {
        if let Some(team) = teams.iter().find(|team| team.len() as u64 != size) {
            return Err(format!("a team of {team:?}, whose size should be {size}"));
        }
    }
    Ok(format!(
        "{deliveries} deliveries with {REINDEER} reindeer each, {} consultations with {ELVES_AT_A_TIME} elves each",
        consultations.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: Kind, helper: u64, round: u64) -> Event {
        Event {
            kind,
            helper,
            round,
        }
    }

    #[test]
    fn broken_rules_are_found() {
        let mut events: Vec<_> = (0..9).map(|r| event(Kind::Reindeer, r, 0)).collect();
        assert!(check(&events, 1).is_ok());
        assert!(check(&events, 2).is_err());
        events.push(event(Kind::Elf, 1, 0));
        assert!(check(&events, 1).unwrap_err().contains("size should be 3"));
        events.push(event(Kind::Elf, 1, 0));
        assert!(check(&events, 1).unwrap_err().contains("twice"));
        assert!(
            check(&events[1..9], 1)
                .unwrap_err()
                .contains("size should be 9")
        );
    }
}
