//! Where objects are: in the rows of C, E and F on a cluster, never at the server that the program names first.
//!
//! That server is the one to which a client connects first, so a row whose object happens to be there tries nothing of
//! what a cluster adds. [`row`] lets the thread of such a row make its objects through [`Elsewhere`], and fails if one of
//! them has its primary at the first server. Objects with keys get the namespace ([`Server::elsewhere`]) or the key
//! ([`key`]) for which this is so.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crucial::{ObjectId, SharedType};
use crucial_client::Client;
use crucial_object::caller::{self, Call, Caller, InFlight, Open, Opened};
use crucial_proto::frame::Routes;
use libtest_mimic::Failed;

use crate::Outcome;
use crate::server;

/// Most objects that are made until one is not at the first server, where one of three is.
const TRIES_MAX: usize = 100;

/// Rows of C, E and F that make no object in their own thread, nor at a server of their own.
const WITHOUT_OBJECTS: [&str; 11] = [
    // Threads without objects.
    "f01_spawn_and_join",
    "f01_names_are_checked",
    "f03_results_of_any_serde_type",
    "f04_results_of_100_tasks_in_order",
    "f05_a_panic_and_an_err_arrive_at_join",
    "f16_a_killed_worker_is_an_error_or_a_retry",
    "f17_time_and_memory_limits_are_kept",
    // Programs of their own, in whose runs the objects are.
    "f02_in_process_mode_goes_through_serialization",
    "f05_a_cancelled_thread_in_this_process_changes_nothing_more",
    "f12_lines_and_events_of_threads_appear_with_their_names",
    "f13_one_suite_passes_on_two_platforms",
];

/// The cluster that this process uses.
static HERE: OnceLock<Servers> = OnceLock::new();

/// Numbers the keys of anonymous objects.
static NEXT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The objects of this thread's row: what they are, and whether they are at the first server.
    static MADE: RefCell<Vec<(String, bool)>> = const { RefCell::new(Vec::new()) };
}

/// Which objects are at the first server of a cluster.
#[derive(Clone, Debug)]
pub struct Servers {
    routes: Routes,
    first: String,
}

impl Servers {
    /// As a client sees them that has connected to the first server.
    pub fn of(client: &Client) -> Servers {
        Servers {
            routes: client.routes(),
            first: client.endpoint().to_string(),
        }
    }

    pub fn is_first(&self, object: &ObjectId) -> bool {
        let primary = self.routes.primary(self.routes.partition(object));
        primary.is_none_or(|server| server.address == self.first)
    }
}

/// Names the cluster that this process uses.
pub fn set_here(client: &Client) {
    HERE.get_or_init(|| Servers::of(client));
}

/// Notes an object of this thread's row.
pub fn note(what: String, is_first: bool) {
    MADE.with_borrow_mut(|made| made.push((what, is_first)));
}

/// Runs a row, and checks where its objects were.
pub fn row(name: &str, test: impl FnOnce() -> Outcome) -> Outcome {
    let is_checked = server::is_cluster() && name.starts_with(['c', 'e', 'f']);
    if !is_checked {
        return test();
    }
    MADE.take();
    match HERE.get() {
        Some(servers) => with(caller::current()?, servers, test)?,
        None => test()?,
    }
    let made = MADE.take();
    let first: Vec<_> = made.iter().filter(|(_, is_first)| *is_first).collect();
    assert!(
        first.is_empty(),
        "at the server that is named first: {first:?}"
    );
    assert_eq!(
        made.is_empty(),
        WITHOUT_OBJECTS.contains(&name),
        "{name} has made {made:?}, and `WITHOUT_OBJECTS` says something else"
    );
    Ok(())
}

/// Makes the calls of `act` by a client, and its anonymous objects elsewhere than at the first server.
pub fn with<R>(client: Arc<dyn Caller>, servers: &Servers, act: impl FnOnce() -> R) -> R {
    let elsewhere = Elsewhere {
        client,
        servers: servers.clone(),
    };
    caller::with(Arc::new(elsewhere), act)
}

/// The same, with a client that has just connected.
pub fn with_client<R>(client: &Arc<Client>, act: impl FnOnce() -> R) -> R {
    match server::is_cluster() {
        true => with(client.clone(), &Servers::of(client), act),
        false => caller::with(client.clone(), act),
    }
}

/// A key that begins with `key`, of an object of this run that is not at the first server.
pub fn key<T: SharedType>(key: &str) -> Result<String, Failed> {
    let Some(servers) = HERE.get() else {
        return Ok(key.to_owned());
    };
    let run = crucial::run_id()?.namespace();
    let mut keys = (0..TRIES_MAX).map(|number| format!("{key}-{number}"));
    let key = keys.find(|key| !servers.is_first(&ObjectId::of(&run, T::NAME, key)));
    key.ok_or_else(|| "no key of an object elsewhere".into())
}

/// A caller whose anonymous objects are not at the first server.
struct Elsewhere {
    client: Arc<dyn Caller>,
    servers: Servers,
}

impl Elsewhere {
    fn open_elsewhere(&self, open: &Open<'_>) -> crucial::Result<Opened> {
        for _ in 0..TRIES_MAX {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let key = format!("#{}.{number}", std::process::id());
            let opened = self.client.open(&Open {
                key: Some(&key),
                ..*open
            })?;
            if !self.servers.is_first(&opened.object) {
                return Ok(opened);
            }
            self.client.delete(opened.object)?;
        }
        Err(crucial::Error::Other(format!(
            "{TRIES_MAX} objects in a row are at the first server"
        )))
    }
}

impl Caller for Elsewhere {
    fn open(&self, open: &Open<'_>) -> crucial::Result<Opened> {
        let opened = match open.key {
            None => self.open_elsewhere(open)?,
            Some(_) => self.client.open(open)?,
        };
        let what = format!("{} {:?}", open.type_name, open.key);
        note(what, self.servers.is_first(&opened.object));
        Ok(opened)
    }

    fn call(&self, call: &Call<'_>) -> crucial::Result<Vec<u8>> {
        self.client.call(call)
    }

    fn start(&self, call: &Call<'_>) -> crucial::Result<Box<dyn InFlight>> {
        self.client.start(call)
    }

    fn delete(&self, object: ObjectId) -> crucial::Result<bool> {
        self.client.delete(object)
    }

    fn clear_poison(&self, object: ObjectId) -> crucial::Result<bool> {
        self.client.clear_poison(object)
    }

    fn clear_namespace(&self) -> crucial::Result<u64> {
        self.client.clear_namespace()
    }
}
