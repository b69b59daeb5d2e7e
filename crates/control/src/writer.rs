//! The thread that writes a voter's journal. No task of the consensus library, and no lock, waits for the disk: they hand
//! records over in order, and are told when these are on disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use crate::journal::{Journal, JournalError};

/// What to call when records are on disk, or cannot be written.
pub(crate) type Written = Box<dyn FnOnce(Result<(), Arc<JournalError>>) + Send>;

enum Job {
    /// These records are to be appended.
    Append(Vec<Vec<u8>>, Written),
    /// These records are to replace all others.
    Replace(Vec<Vec<u8>>, Written),
    #[cfg(test)]
    Break,
}

/// Hands records to the journal's thread. Dropping the writer blocks until everything is written and the directory is
/// unlocked.
pub(crate) struct Writer {
    /// `None` while the writer is dropped.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// The journal's length, in bytes, after the last job that is done.
    bytes: Arc<AtomicU64>,
}

impl Writer {
    /// Starts the thread.
    pub fn start(journal: Journal) -> std::io::Result<Writer> {
        let (jobs, queue) = mpsc::channel();
        let bytes = Arc::new(AtomicU64::new(journal.bytes()));
        let length = bytes.clone();
        let thread =
            crucial_local::thread::start("crucial-journal", move || run(journal, &queue, &length))?;
        Ok(Writer {
            jobs: Some(jobs),
            thread: Some(thread),
            bytes,
        })
    }

    /// Appends records behind those that were handed over before.
    pub fn append(&self, records: Vec<Vec<u8>>, written: Written) {
        self.send(Job::Append(records, written));
    }

    /// Replaces all records.
    pub fn replace(&self, records: Vec<Vec<u8>>, written: Written) {
        self.send(Job::Replace(records, written));
    }

    /// The journal's length, in bytes, without what is being written.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Makes all later writes fail.
    #[cfg(test)]
    pub fn break_file(&self) {
        self.send(Job::Break);
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The thread lives as long as the sender. Had it panicked, dropping the job would tell whoever waits for it.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn run(mut journal: Journal, queue: &mpsc::Receiver<Job>, bytes: &AtomicU64) {
    // Records may rest on those before them, so none is written behind one that was not.
    let mut failed: Option<Arc<JournalError>> = None;
    let mut next = None;
    while let Some(job) = next.take().or_else(|| queue.recv().ok()) {
        let (result, written) = match job {
            Job::Append(mut records, written) => {
                let mut all = vec![written];
                // What was handed over during the last sync has one sync together.
                while let Ok(job) = queue.try_recv() {
                    match job {
                        Job::Append(more, written) => {
                            records.extend(more);
                            all.push(written);
                        }
                        other => {
                            next = Some(other);
                            break;
                        }
                    }
                }
                let records = records.iter().map(Vec::as_slice);
                (do_unless(&failed, || journal.append(records)), all)
            }
            Job::Replace(records, written) => {
                let records: Vec<_> = records.iter().map(Vec::as_slice).collect();
                let result = do_unless(&failed, || journal.replace(&records));
                (result, vec![written])
            }
            #[cfg(test)]
            Job::Break => {
                journal.break_file();
                continue;
            }
        };
        bytes.store(journal.bytes(), Ordering::Release);
        failed = result.as_ref().err().cloned();
        for written in written {
            written(result.clone());
        }
    }
}

fn do_unless(
    failed: &Option<Arc<JournalError>>,
    write: impl FnOnce() -> Result<(), JournalError>,
) -> Result<(), Arc<JournalError>> {
    match failed {
        Some(error) => Err(error.clone()),
        None => write().map_err(Arc::new),
    }
}
