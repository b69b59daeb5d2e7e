//! Which fault begins and ends when, and the log of them.
//!
//! Faults come in bursts: a single one, or several that overlap, for some seconds. At its end a burst ends all of its
//! faults, and waits until the cluster is whole: an episode of the [`Judge`].

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crucial_testing::{Cluster, Error, Result, Slow};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::judge::Judge;
use crate::memory::Memory;

/// How often a burst looks whether a fault is to end, or a server is ready or gone.
const STEP: Duration = Duration::from_millis(20);

/// How long a fault lasts, in milliseconds.
const FAULT_MS: std::ops::Range<u64> = 500..4500;

/// How long a burst of overlapping faults lasts, in milliseconds.
const BURST_MS: std::ops::Range<u64> = 4000..15_000;

/// How long servers may take to be ready or to leave when no fault is left.
const CALM_PATIENCE: Duration = Duration::from_secs(120);

/// How many servers stay when others leave.
const STAY_MIN: usize = 3;

/// What happens to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Its process is killed, and started again at the end.
    Kill,
    /// The same, and what it has on its disk is gone.
    Wipe,
    /// Its process is stopped and goes on at the end.
    Pause,
    /// Its host reaches nobody.
    Unplug,
    /// Packets from one to another are dropped.
    Cut(Vec<(u8, u8)>),
    /// Its link is slow.
    Slow,
    /// The server starts, and is ready at the end.
    Start,
    /// The server leaves, and has ended at the end.
    Leave,
}

/// A fault that has begun.
#[derive(Debug)]
struct Active {
    kind: Kind,
    server: usize,
    detail: String,
    begun: Instant,
    until: Instant,
}

/// The settings of faults.
#[derive(Debug)]
pub struct FaultOptions {
    /// The seed of the faults and their times.
    pub seed: u64,
    /// The longest pause between two faults.
    pub pause: Duration,
    /// The number of hosts for servers.
    pub hosts: u8,
    /// The file that gets a line for each fault.
    pub log: PathBuf,
    /// How long the cluster may take to be whole again.
    pub patience: Duration,
}

/// Injects faults.
pub struct Faults {
    cluster: Cluster,
    judge: Arc<Judge>,
    memory: Arc<Memory>,
    options: FaultOptions,
    random: ChaCha8Rng,
    log: File,
    started: Instant,
    active: Vec<Active>,
    can_slow: bool,
    can_delay: bool,
    is_wiped: bool,
    /// How many faults the present burst has at a time.
    limit: usize,
    count: u64,
    overlaps: u64,
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Kind::Kill => "kill",
            Kind::Wipe => "kill-and-wipe",
            Kind::Pause => "pause",
            Kind::Unplug => "unplug",
            Kind::Cut(_) => "cut",
            Kind::Slow => "slow",
            Kind::Start => "start",
            Kind::Leave => "leave",
        }
    }
}

impl Faults {
    /// No fault yet, and an empty log.
    ///
    /// # Errors
    ///
    /// If the log cannot be written.
    pub fn new(
        cluster: Cluster,
        judge: Arc<Judge>,
        memory: Arc<Memory>,
        options: FaultOptions,
    ) -> Result<Faults> {
        let (log, columns) = (&options.log, "start_s\tduration_s\tfault\tserver\tdetail");
        let mut file = File::create(log).map_err(writing(log))?;
        writeln!(file, "{columns}").map_err(writing(log))?;
        memory.set_servers(cluster.processes());
        Ok(Faults {
            random: ChaCha8Rng::seed_from_u64(options.seed),
            can_slow: cluster.net().can_slow(),
            can_delay: cluster.net().can_delay(),
            started: Instant::now(),
            cluster,
            judge,
            memory,
            options,
            log: file,
            active: Vec::new(),
            is_wiped: false,
            limit: 1,
            count: 0,
            overlaps: 0,
        })
    }

    /// The number of faults so far, and how many of them began while another one lasted.
    pub fn count(&self) -> (u64, u64) {
        (self.count, self.overlaps)
    }

    /// Injects faults, at most `limit` at a time, ends them all, and waits until the cluster is whole. With a `limit` of
    /// 1 there is a single fault.
    ///
    /// # Errors
    ///
    /// If the cluster is not whole in time, or an object is lost that must not be.
    pub fn burst(&mut self, limit: usize) -> Result<()> {
        self.is_wiped = false;
        self.limit = limit;
        let until = Instant::now() + self.milliseconds(BURST_MS);
        let mut next = Instant::now() + self.pause(limit);
        let mut begun = 0;
        while (limit == 1 && begun == 0) || (limit > 1 && Instant::now() < until) {
            self.step()?;
            if self.active.len() < limit && Instant::now() >= next {
                self.begin()?;
                begun += 1;
                next = Instant::now() + self.pause(limit);
            }
            self.wait();
        }
        self.calm_down(limit)?;
        self.end_episode()
    }

    /// Waits until the cluster is whole, and ends the episode.
    ///
    /// # Errors
    ///
    /// If the cluster is not whole in time, or an object is lost that must not be.
    pub fn end_episode(&mut self) -> Result<()> {
        self.cluster.wait_whole_within(self.options.patience)?;
        let first = self.cluster.running().first().copied().unwrap_or(0);
        let info = self.cluster.info(first)?;
        let whole_s = self.started.elapsed().as_secs_f64();
        let episode = self.judge.now();
        writeln!(self.log, "{whole_s:.3}\t\twhole\t\tends episode {episode}")
            .map_err(writing(&self.options.log))?;
        for loss in self.judge.end_episode(&info)? {
            writeln!(self.log, "{whole_s:.3}\t\tlost\t\t{loss}")
                .map_err(writing(&self.options.log))?;
        }
        Ok(())
    }

    /// Overlapping faults follow each other sooner.
    fn pause(&mut self, limit: usize) -> Duration {
        let max = self.options.pause.as_millis() as u64 / if limit > 1 { 4 } else { 1 };
        Duration::from_millis(self.random.random_range(0..=max))
    }

    fn milliseconds(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(range))
    }

    /// A fault's time is up to this test, and no server says when it is ready or gone by more than its output or exit.
    fn wait(&self) {
        std::thread::sleep(STEP);
    }

    /// Ends all faults: at once, but for a single one, which lasts as long as it is to.
    fn calm_down(&mut self, limit: usize) -> Result<()> {
        let begun = Instant::now();
        if limit > 1 {
            self.active.iter_mut().for_each(|fault| fault.until = begun);
        }
        while !self.active.is_empty() {
            if begun.elapsed() > CALM_PATIENCE {
                let names = self.active.iter().map(|fault| {
                    let address = &self.cluster.place(fault.server).address;
                    format!("{} of {address}", fault.kind.name())
                });
                let names: Vec<_> = names.collect();
                return Err(Error::Late(CALM_PATIENCE, names.join(", ")));
            }
            self.step()?;
            self.wait();
        }
        Ok(())
    }

    /// Ends the faults whose time has come.
    fn step(&mut self) -> Result<()> {
        for mut fault in std::mem::take(&mut self.active) {
            if !self.is_over(&mut fault)? {
                self.active.push(fault);
                continue;
            }
            self.write_line(&fault)?;
            if matches!(fault.kind, Kind::Kill | Kind::Wipe) {
                self.start(fault.server, "again".to_owned())?;
            }
        }
        Ok(())
    }

    /// Whether a fault is over; ends it if its time is up.
    fn is_over(&mut self, fault: &mut Active) -> Result<bool> {
        let host = fault.server as u8;
        match &fault.kind {
            Kind::Start => return self.cluster.is_ready(fault.server),
            Kind::Leave => {
                let exit = self.cluster.exit(fault.server)?;
                if let Some(code) = exit {
                    fault.detail = format!("exit status {code:?}");
                    self.memory.set_servers(self.cluster.processes());
                }
                return Ok(exit.is_some());
            }
            _ if Instant::now() < fault.until => return Ok(false),
            Kind::Kill | Kind::Wipe => {}
            Kind::Pause => self.cluster.resume(fault.server)?,
            Kind::Unplug => self.cluster.net().plug(host),
            Kind::Cut(pairs) => {
                for (from, to) in pairs {
                    self.cluster.net().mend(*from, *to);
                }
            }
            Kind::Slow => self.cluster.net().hasten(host),
        }
        Ok(true)
    }

    /// Servers that no fault is at.
    fn free(&self) -> Vec<usize> {
        let mut free = self.cluster.running();
        free.retain(|server| self.active.iter().all(|fault| fault.server != *server));
        free
    }

    /// Begins a fault at a server that has none.
    fn begin(&mut self) -> Result<()> {
        let free = self.free();
        let Some(victim) = free.choose(&mut self.random).copied() else {
            return Ok(());
        };
        let kinds = match (self.cluster.net().can_cut(), self.can_slow) {
            (false, _) => 6,
            (true, false) => 9,
            (true, true) => 11,
        };
        match self.random.random_range(0..kinds) {
            0 | 1 => self.kill(victim),
            2 | 3 => {
                self.cluster.pause(victim)?;
                self.add(Kind::Pause, victim, String::new());
                Ok(())
            }
            4 => self.leave(victim),
            5 => self.join(),
            6 => {
                self.cluster.net().unplug(victim as u8);
                self.add(Kind::Unplug, victim, String::new());
                Ok(())
            }
            7 => {
                self.cut_off(victim);
                Ok(())
            }
            8 => {
                let others: Vec<_> = free.into_iter().filter(|o| *o != victim).collect();
                if let Some(other) = others.choose(&mut self.random) {
                    self.cut(victim, *other);
                }
                Ok(())
            }
            _ => {
                self.slow(victim);
                Ok(())
            }
        }
    }

    fn kill(&mut self, victim: usize) -> Result<()> {
        self.cluster.kill(victim)?;
        // A second server that forgot who it is, or was down meanwhile, would leave too few voters.
        let alone = self.cluster.stopped() == [victim] && !self.is_wiped;
        if alone && self.random.random_range(0..4) == 0 {
            self.cluster.wipe(victim)?;
            self.judge.wipe();
            self.is_wiped = true;
            self.add(Kind::Wipe, victim, String::new());
        } else {
            self.add(Kind::Kill, victim, String::new());
        }
        self.memory.set_servers(self.cluster.processes());
        Ok(())
    }

    fn leave(&mut self, victim: usize) -> Result<()> {
        if self.free().len() > STAY_MIN {
            self.cluster.request_leave(victim)?;
            self.add(Kind::Leave, victim, String::new());
        }
        Ok(())
    }

    /// A server that has left starts again, or a new one does.
    fn join(&mut self) -> Result<()> {
        let is_down = |server: &usize| self.active.iter().all(|fault| fault.server != *server);
        match self.cluster.stopped().into_iter().find(is_down) {
            Some(server) => self.start(server, "joins again".to_owned()),
            None if self.cluster.len() < usize::from(self.options.hosts) => {
                let server = self.cluster.add_place()?;
                self.start(server, "joins".to_owned())
            }
            None => Ok(()),
        }
    }

    fn start(&mut self, server: usize, detail: String) -> Result<()> {
        self.cluster.begin(server)?;
        self.memory.set_servers(self.cluster.processes());
        self.add(Kind::Start, server, detail);
        Ok(())
    }

    fn cut_off(&mut self, victim: usize) {
        let others = self.cluster.running().into_iter().filter(|o| *o != victim);
        let pairs = others.flat_map(|other| {
            let (one, two) = (victim as u8, other as u8);
            [(one, two), (two, one)]
        });
        self.cut_pairs(victim, pairs.collect(), "from all servers".to_owned());
    }

    fn cut(&mut self, victim: usize, other: usize) {
        let (to, address) = (other as u8, self.cluster.place(other).address.clone());
        self.judge.touch(&address);
        self.cut_pairs(victim, vec![(victim as u8, to)], format!("to {address}"));
    }

    /// Cuts what no other fault has cut, since the fault that ends first would mend it.
    fn cut_pairs(&mut self, victim: usize, mut pairs: Vec<(u8, u8)>, detail: String) {
        let is_cut = |pair: &(u8, u8)| {
            let mut faults = self.active.iter();
            faults.any(|fault| matches!(&fault.kind, Kind::Cut(pairs) if pairs.contains(pair)))
        };
        pairs.retain(|pair| !is_cut(pair));
        for (from, to) in &pairs {
            self.cluster.net().cut(*from, *to);
        }
        self.add(Kind::Cut(pairs), victim, detail);
    }

    fn slow(&mut self, victim: usize) {
        let slow = Slow {
            rate_kbit: *[2_000, 10_000, 50_000, 200_000]
                .choose(&mut self.random)
                .unwrap_or(&10_000),
            queue_ms: self.random.random_range(20..1000),
            delay_ms: match self.can_delay {
                true => self.random.random_range(0..100),
                false => 0,
            },
        };
        self.cluster.net().slow(victim as u8, &slow);
        // A primary behind a slow link goes on without backups that it takes for silent, and may die then.
        if self.limit > 1 {
            for other in self.cluster.running() {
                self.judge.touch(&self.cluster.place(other).address);
            }
        }
        self.add(Kind::Slow, victim, format!("{slow:?}"));
    }

    fn add(&mut self, kind: Kind, server: usize, detail: String) {
        self.judge.touch(&self.cluster.place(server).address);
        if kind != Kind::Start || !detail.starts_with("again") {
            self.count += 1;
            self.overlaps += u64::from(!self.active.is_empty());
        }
        let begun = Instant::now();
        let until = begun + self.milliseconds(FAULT_MS);
        self.active.push(Active {
            kind,
            server,
            detail,
            begun,
            until,
        });
    }

    /// Writes the line of a fault that has ended.
    fn write_line(&mut self, fault: &Active) -> Result<()> {
        let begun = fault.begun - self.started;
        let line = format!(
            "{:.3}\t{:.3}\t{}\t{}\t{}",
            begun.as_secs_f64(),
            fault.begun.elapsed().as_secs_f64(),
            fault.kind.name(),
            self.cluster.place(fault.server).address,
            fault.detail
        );
        writeln!(self.log, "{line}").map_err(writing(&self.options.log))
    }
}

/// Faults that last yet get their lines.
impl Drop for Faults {
    fn drop(&mut self) {
        for mut fault in std::mem::take(&mut self.active) {
            fault.detail += " (lasts)";
            // The run's own error is what counts.
            let _ = self.write_line(&fault);
        }
    }
}

fn writing(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let what = format!("write {}", path.display());
    move |source| Error::Io { what, source }
}
