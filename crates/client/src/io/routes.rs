//! Takes newer routes, and other clusters, up.

use std::sync::Arc;

use crucial_object::{Error, Result};
use crucial_proto::frame::Routes;

use super::net::Net;
use crate::session::{Member, Table};

impl Net {
    /// Newer routes have come from a server that was reached at `reached`; others are ignored.
    ///
    /// # Errors
    ///
    /// [`Error::Protocol`] if they are of another cluster, or no good.
    pub fn on_routes(&self, routes: Routes, reached: &str) -> Result<()> {
        let taking = self.taking();
        let Some(table) = self.session().newer_table(routes, reached)? else {
            return Ok(());
        };
        let now_ms = self.now_ms();
        let failed =
            self.replace_directory(table.clone(), |session| session.take_table(table, now_ms));
        drop(taking);
        self.fail(failed);
        self.connect_wanted();
        Ok(())
    }

    /// The only server of the cluster, which was reached at `reached`, is another cluster now: session and run are gone.
    ///
    /// # Errors
    ///
    /// [`Error::Protocol`] if the routes are no good.
    pub fn on_other_cluster(&self, reached: &str, routes: Routes) -> Result<()> {
        let table = Arc::new(Table::new(routes, reached)?);
        let taking = self.taking();
        let failed = self.replace_directory(table.clone(), |session| session.take_cluster(table));
        drop(taking);
        tracing::debug!(address = reached, error = %Error::SessionExpired, "another cluster");
        self.fail(failed);
        Ok(())
    }

    /// Sees to it that there are connections to all servers that have, or are to have, something of the client.
    pub fn connect_wanted(&self) {
        let wanted: Vec<Member> = self.session().wanted();
        let links = wanted.into_iter().filter_map(|member| self.link(member));
        links.for_each(|link| self.connect(&link));
    }
}
