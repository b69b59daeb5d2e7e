//! Newer routes come, or another cluster: calls are sent where the routes say.

use std::sync::Arc;

use crucial_object::{Error, Result};
use crucial_proto::frame::{self, Routes, Welcome};

use super::calls::Sending;
use super::links::LinkState;
use super::member::Member;
use super::pending::{Failed, PendingCall, Target};
use super::routes::Table;
use super::state::{Session, no_member};

/// How the routes of a welcome stand to those of the session.
#[derive(Debug, PartialEq, Eq)]
pub enum Fit {
    /// The routes are of the session's cluster; they can be older.
    Ours,
    /// The only server of the cluster was restarted as another cluster: session and run are gone.
    Another,
}

/// The consequences of another table.
pub struct Rerouted<W> {
    /// To be written to the servers at these places, behind what was written before.
    pub frames: Vec<Vec<u8>>,
    /// Calls whose answers are to come from elsewhere now.
    pub moved: Vec<(Arc<PendingCall<W>>, Option<Member>)>,
    pub failed: Failed<W>,
}

impl<W> Session<W> {
    /// The table that these routes make, if they are newer.
    ///
    /// # Errors
    ///
    /// [`Error::Protocol`] if they are of another cluster, or no good.
    pub fn newer_table(&self, routes: Routes, reached: &str) -> Result<Option<Arc<Table>>> {
        self.check_cluster(&routes)?;
        if routes.version <= self.table.version() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Table::new(routes, reached)?)))
    }

    fn check_cluster(&self, routes: &Routes) -> Result<()> {
        let (theirs, ours) = (routes.cluster, self.table.routes().cluster);
        if theirs == ours {
            return Ok(());
        }
        Err(Error::Protocol {
            detail: format!("the server is of the cluster {theirs:x}, and the client of {ours:x}"),
        })
    }

    /// How a welcome fits that came from the address of `member`; of a seed, if `None`.
    ///
    /// # Errors
    ///
    /// [`Error::Protocol`] if the welcome is of another cluster while this one may live on: one of several servers, or a
    /// seed, cannot speak for the cluster.
    pub fn fit(&self, member: Option<Member>, welcome: &Welcome) -> Result<Fit> {
        match self.check_cluster(&welcome.routes) {
            Ok(()) => Ok(Fit::Ours),
            Err(_) if self.is_only(member) => Ok(Fit::Another),
            Err(error) => Err(error),
        }
    }

    fn is_only(&self, member: Option<Member>) -> bool {
        let is_connected = self.links.iter().any(LinkState::is_up);
        !is_connected && matches!(self.table.members(), [only] if Some(*only) == member)
    }

    /// Goes by a newer table of the cluster.
    pub fn take_table(&mut self, table: Arc<Table>, now_ms: u64) -> Rerouted<W> {
        // A server can have lost and regained an object by routes that were skipped, and with the object the order of its
        // calls. So its calls are sent again before new ones.
        let resend = table.version() > self.table.version() + 1;
        self.note_vouched();
        self.replace_table(table);
        let mut frames = vec![Vec::new(); self.links.len()];
        let version = self.table.version();
        let links = self.links.iter().zip(&mut frames);
        for (_, frames) in links.filter(|(link, _)| link.is_up()) {
            // The frame has a constant size, so encoding it cannot fail.
            let _ = frame::write_known_routes(version, frames);
        }
        let moved = self.reroute(resend, &mut frames, now_ms);
        let table = &self.table;
        let failed = self.calls.take(|entry| match entry.call.target {
            Target::Member(member) => table.place_of(member).is_none(),
            Target::Object(_) => false,
        });
        Rerouted {
            frames,
            moved,
            failed: Failed {
                calls: failed,
                error: no_member(),
            },
        }
    }

    /// Goes by the table of another cluster, which knows nothing of the session: all calls in flight fail.
    pub fn take_cluster(&mut self, table: Arc<Table>) -> Rerouted<W> {
        self.replace_table(table);
        Rerouted {
            frames: vec![Vec::new(); self.links.len()],
            moved: Vec::new(),
            failed: self.fail_all(Error::SessionExpired),
        }
    }

    fn replace_table(&mut self, table: Arc<Table>) {
        let links = table.members().iter().map(|member| {
            let known = self.link(*member).cloned();
            known.unwrap_or_else(|| LinkState::new(*member))
        });
        let links: Vec<LinkState> = links.collect();
        self.links = links;
        let partitions = table.routes().primaries.len();
        if partitions != self.touched.len() {
            // Which of them are used is not known, so all are.
            self.touched = vec![true; partitions];
        }
        self.table = table;
    }

    /// Sends the calls that are elsewhere now, or wait to be sent, where the table says; with `resend` all calls. Gives
    /// those whose answers are to come from elsewhere.
    fn reroute(
        &mut self,
        resend: bool,
        frames: &mut [Vec<u8>],
        now_ms: u64,
    ) -> Vec<(Arc<PendingCall<W>>, Option<Member>)> {
        let (acked, version) = (self.calls.acked(), self.table.version());
        let oldest_ms = self.oldest_ms(now_ms);
        let released = self.holds.release(version);
        let mut moved = Vec::new();
        for entry in self.calls.entries_mut() {
            let Target::Object(object) = entry.call.target else {
                continue;
            };
            let place = self.table.place_of_object(&object);
            let link = place.map(|place| &self.links[place]);
            let member = link.map(|link| link.member);
            let has_moved = entry.member != member;
            if has_moved {
                entry.member = member;
                moved.push((entry.call.clone(), member));
            }
            let is_held = self.holds.holds(&object);
            if resend || has_moved || is_held || released.binary_search(&object).is_ok() {
                entry.mark_unroutable(now_ms);
            }
            if let Some((place, link)) = place.zip(link)
                && entry.sent == 0
                && link.is_up()
                && !is_held
                && entry.may_be_sent(oldest_ms)
            {
                let sending = Sending {
                    connection: link.connection,
                    acked,
                    connected_ms: link.connected_ms,
                    oldest_ms,
                };
                entry.send(sending, &mut frames[place]);
            }
        }
        moved
    }
}
