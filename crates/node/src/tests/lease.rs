//! When a server may serve.

use std::sync::Arc;

use crate::membership::Membership;
use crate::replication::{Grant, NodeId, View, ViewVersion};

#[test]
fn a_lease_counts_until_its_end_and_with_its_view() {
    let membership = Membership::new(NodeId(1), 4, 1000);
    assert!(!membership.has_lease(0));
    membership.renew(Grant {
        sent_ms: 100,
        view: ViewVersion(3),
    });
    for version in [2, 3, 4] {
        let mut view = View::new(4);
        view.version = ViewVersion(version);
        membership.set_view(Arc::new(view));
        assert_eq!(membership.has_lease(1099), version >= 3);
        assert!(!membership.has_lease(1100));
    }
    membership.end_lease();
    assert!(!membership.has_lease(500));
}
