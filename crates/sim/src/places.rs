//! Where each party is: a node at its number, the control group at 0 as a whole and its voters at numbers of their own,
//! clients at the highest numbers.

use std::collections::BTreeSet;

use crucial_object::SessionId;

/// Where all clients are, together.
pub const CLIENTS: u64 = u64::MAX;

/// Where the voters of the control group are.
pub const VOTERS: [u64; 3] = [1 << 62, (1 << 62) + 1, (1 << 62) + 2];

/// Where one client is.
pub fn place_of(client: SessionId) -> u64 {
    CLIENTS - client.0
}

/// Whether it is the place of a client.
pub fn is_client(place: u64) -> bool {
    place > u64::MAX / 2
}

/// A place, or all places of its kind.
fn group(place: u64) -> u64 {
    match is_client(place) {
        true => CLIENTS,
        false if VOTERS.contains(&place) => 0,
        false => place,
    }
}

/// Whether the way from a place to another one is among these.
pub fn has(links: &BTreeSet<(u64, u64)>, from: u64, to: u64) -> bool {
    !links.is_empty() && (links.contains(&(from, to)) || links.contains(&(group(from), group(to))))
}
