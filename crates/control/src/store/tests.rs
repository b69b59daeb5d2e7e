//! The log as the consensus library reads it.

use super::*;
use crucial_node::replication::Command;
use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

struct Builder;

impl StoreBuilder<Group, Store, Store, TempDir> for Builder {
    async fn build(&self) -> StorageResult<(TempDir, Store, Store)> {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), 16, FileSync::default()).unwrap();
        Ok((directory, store.clone(), store))
    }
}

#[test]
fn the_commands_per_message_are_limited() {
    use openraft::CommittedLeaderId;
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(directory.path(), 16, FileSync::default()).unwrap();
    let command = Command::Leave {
        node: crucial_node::replication::NodeId(1),
        incarnation: crucial_node::replication::Incarnation(1),
    };
    for (index, count) in [(1, 10), (2, COMMANDS_MAX + 10), (3, 10)] {
        let decision = Decision {
            term: None,
            commands: vec![command.clone(); count],
        };
        let entry = Entry {
            log_id: LogId::new(CommittedLeaderId::new(1, 1), index),
            payload: EntryPayload::Normal(decision),
        };
        store.0.lock().log.insert(index, entry);
    }
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.build().unwrap();
    let mut from = |start| {
        let read = store.limited_get_log_entries(start, 4);
        let entries = runtime.block_on(read).unwrap();
        let indices = entries.iter().map(|entry| entry.log_id.index);
        indices.collect::<Vec<_>>()
    };
    assert_eq!(from(1), [1]);
    assert_eq!(from(2), [2]);
    assert_eq!(from(3), [3]);
}

/// The consensus library's own tests of a store.
#[test]
fn the_library_accepts_the_store() {
    Suite::test_all(Builder).unwrap();
}
