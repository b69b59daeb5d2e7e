//! E2, E3: many clients that die and come back, exact totals, and bounded memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use crucial::sync::{AtomicI64, Semaphore};
use crucial::{Error, Result, Shared, SharedType, shared};
use crucial_client::Client;
use crucial_object::caller;
use libtest_mimic::{Failed, Trial};
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::program::Program;
use crate::server::{self, Server};
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        e02_the_total_is_that_of_the_acknowledged_calls,
        e03_records_are_bounded,
    ]
}

const CLIENTS: u64 = 64;

/// The calls of each client. A replicated change takes about four times as long, and a row should not take minutes.
fn increments() -> u64 {
    match server::is_cluster() {
        true => 20_000,
        false => 50_000,
    }
}

/// Calls that a client has in flight.
const WINDOW: u64 = 50;

/// Which client a process is.
const CLIENT: &str = "CONFORMANCE_CLIENT";

/// Says that another process was this client before, and was killed.
const HEIR: &str = "CONFORMANCE_HEIR";

/// Counts, and takes each client's increments once, in order.
#[derive(Default, Serialize, Deserialize)]
struct Ledger {
    last: BTreeMap<u64, u64>,
    total: u64,
}

#[shared]
impl Ledger {
    /// The `number`th increment of `client`.
    #[fallible]
    fn increment(&mut self, client: u64, number: u64) -> Result<u64> {
        let last = self.last.entry(client).or_default();
        if number != *last + 1 {
            return Err(Error::Other(format!(
                "increment {number} of client {client} after its {last}th"
            )));
        }
        *last = number;
        self.total += 1;
        Ok(self.total)
    }

    fn last(&self, client: u64) -> u64 {
        self.last.get(&client).copied().unwrap_or(0)
    }

    fn total(&self) -> u64 {
        self.total
    }
}

fn ledger() -> Result<Shared<Ledger>> {
    Shared::builder("e02")
        .persistent()
        .create(Ledger::default())
}

pub fn program(name: &str) -> Option<Result<()>> {
    (name == "increment").then(increment)
}

/// Goes on where the client was, or its predecessor of the same number.
fn increment() -> Result<()> {
    let client: u64 = std::env::var(CLIENT)
        .ok()
        .and_then(|client| client.parse().ok())
        .ok_or("no number")?;
    let ledger = ledger()?;
    let mut next = ledger.last(client)? + 1;
    while next <= increments() {
        let end = (next + WINDOW).min(increments() + 1);
        let window: Vec<_> = (next..end)
            .map(|number| ledger.deferred().increment(client, number))
            .collect();
        let outcomes: Vec<Result<u64>> = window.into_iter().map(|call| call.wait()).collect();
        match outcomes.into_iter().collect::<Result<Vec<u64>>>() {
            Ok(_) => next = end,
            // What the dead process had sent can still arrive, and comes first then.
            Err(Error::Other(_)) if std::env::var_os(HEIR).is_some() => {
                next = ledger.last(client)? + 1;
            }
            Err(error) => return Err(error),
        }
        if next % (increments() / 5) <= WINDOW {
            println!("{next}");
        }
    }
    println!("done");
    Ok(())
}

fn start(client: u64, server: &Server, heir: bool) -> std::result::Result<Program, Failed> {
    let mut command = server.command("increment")?;
    command.env(CLIENT, client.to_string());
    if heir {
        command.env(HEIR, "1");
    }
    Program::start_command(command)
}

fn e02_the_total_is_that_of_the_acknowledged_calls() -> Outcome {
    // Connections break by proxies, and at a cluster by the death of the server that has the ledger.
    let (server, proxies) = match server::is_cluster() {
        true => {
            let server = Server::fresh(&[])?.elsewhere(&[(Ledger::NAME, "e02")])?;
            (server, None)
        }
        false => {
            let (server, proxies) = Server::behind_proxies(&[])?;
            (server, Some(proxies))
        }
    };
    let mut programs: Vec<Program> = (0..CLIENTS)
        .map(|client| start(client, &server, false))
        .collect::<std::result::Result<_, _>>()?;
    for client in (0..CLIENTS).step_by(2) {
        let program = &mut programs[client as usize];
        // Somewhere in its work, with calls in flight.
        for _ in 0..client % 3 {
            program.line()?;
        }
        program.kill()?;
        *program = start(client, &server, true)?;
        match &proxies {
            Some(proxies) => proxies.cut(),
            None if client == CLIENTS / 2 => {
                let primary = server.primary("e02")?;
                server.kill(primary)?;
                server.restart(primary)?;
            }
            None => {}
        }
    }
    for program in programs {
        let said = program.output()?;
        assert!(said.ends_with("done\n"), "{said}");
    }
    let total = caller::with(server.client()?, || ledger()?.total())?;
    // A call that was executed twice, or lost, would have failed in its client.
    assert_eq!(total, CLIENTS * increments());
    Ok(())
}

/// Lets clients make 160 000 calls, of which few `records` may be there at the same time.
fn count_with_few_records(
    clients: &[Arc<Client>],
    records: impl Fn() -> std::result::Result<u64, Failed> + Sync,
) -> Outcome {
    let (counter, permits) = caller::with(clients[0].clone(), || -> Result<_> {
        let counter = Shared::builder("e03").persistent();
        let permits = Shared::builder("e03").persistent();
        Ok((
            counter.create(AtomicI64::new(0))?,
            permits.create(Semaphore::new(0))?,
        ))
    })?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter()
            .map(|client| {
                scope.spawn(|| {
                    caller::with(client.clone(), || -> std::result::Result<u64, Failed> {
                        // One call waits all the while, and must not hold the others' records up.
                        let waiting = permits.deferred().acquire();
                        let mut most = 0;
                        for call in 0..20_000 {
                            counter.fetch_add(1)?;
                            if call % 100 == 0 {
                                most = most.max(records()?);
                            }
                        }
                        drop(waiting);
                        Ok(most)
                    })
                })
            })
            .collect();
        for thread in threads {
            let most = thread.join().map_err(|_| "a client panicked")??;
            // The number of clients and the size of their windows decide, not the number of calls.
            assert!((1..8 * 2500).contains(&most), "{most} records");
        }
        Outcome::Ok(())
    })?;
    let total = caller::with(clients[0].clone(), || counter.load())?;
    assert_eq!(total, 160_000);
    Ok(())
}

fn e03_records_are_bounded() -> Outcome {
    if server::is_cluster() {
        let objects = [(AtomicI64::NAME, "e03"), (Semaphore::NAME, "e03")];
        let server = Server::fresh(&[])?.elsewhere(&objects)?;
        let clients = (0..8).map(|_| server.client());
        let clients = clients.collect::<std::result::Result<Vec<_>, _>>()?;
        let records = || {
            let objects = clients[0].object_infos(None, 10, None)?;
            Ok(objects.iter().map(|object| object.records).sum())
        };
        return count_with_few_records(&clients, records);
    }
    let server = crucial_server::Server::start(crucial_server::Config {
        listen: vec!["127.0.0.1:0".parse()?],
        ..Default::default()
    })?;
    let connect = || Client::connect(crucial_client::Config::new(server.endpoints()[0].clone()));
    let clients = (0..8).map(|_| connect()).collect::<Result<Vec<_>>>()?;
    count_with_few_records(&clients, || Ok(server.status().node.records as u64))?;
    server.stop();
    Ok(())
}
