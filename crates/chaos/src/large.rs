//! Large objects: blobs that grow, and are read back.

use crucial::Shared;
use crucial::collections::Blob;
use crucial_testing::{Error, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_bytes::ByteBuf;

use crate::worker::{Context, Outcome, Seen, Workers};

/// The number of blobs.
const BLOBS: u64 = 2;

/// The bytes by which a blob grows.
const CHUNK_BYTES: usize = 1 << 20;

/// Starts a thread for each of two blobs, which grows to `megabytes`, is read back as a whole, and begins anew.
///
/// # Errors
///
/// If a client cannot connect.
pub fn start(workers: &mut Workers, context: &Context, megabytes: u64) -> Result<()> {
    for number in 0..BLOBS {
        workers.start(context, format!("blob {number}"), move |context| {
            run(context, number, megabytes)
        })?;
    }
    Ok(())
}

struct Growing {
    name: String,
    blob: Shared<Blob>,
    seen: Seen,
    /// The number of chunks that it has.
    chunks: u64,
    seed: u64,
}

impl Growing {
    fn create(context: &Context, number: u64, generation: &mut u64) -> Result<Growing> {
        let name = |generation: u64| format!("blob-{number}.{generation}");
        let (blob, since) = context.create(generation, |generation| {
            Shared::builder(name(generation))
                .replicas(context.replicas)
                .create(Blob::new(Vec::new()))
        })?;
        Ok(Growing {
            name: name(*generation),
            seen: Seen {
                object: blob.id(),
                since,
            },
            blob,
            chunks: 0,
            seed: context.seed ^ *generation << 32 ^ number,
        })
    }

    /// What the chunk of a place must be: no two are the same.
    fn chunk(&self, place: u64) -> Vec<u8> {
        let mut bytes = vec![0; CHUNK_BYTES];
        ChaCha8Rng::seed_from_u64(self.seed.wrapping_add(place << 16)).fill(&mut bytes[..]);
        bytes
    }

    fn grow(&mut self, context: &Context) -> Result<Outcome<()>> {
        let (chunk, expected) = (self.chunk(self.chunks), self.chunks * CHUNK_BYTES as u64);
        let append = || self.blob.append(ByteBuf::from(chunk));
        match context.call(&self.name, &mut self.seen, append)? {
            Outcome::Lost => return Ok(Outcome::Lost),
            Outcome::Done(start) if start != expected => {
                return Err(Error::Wrong(format!(
                    "{} had {start} bytes, and {expected} were acknowledged",
                    self.name
                )));
            }
            Outcome::Done(_) => {}
        }
        self.chunks += 1;
        Ok(Outcome::Done(()))
    }

    fn read(&mut self, context: &Context, place: u64) -> Result<Outcome<()>> {
        let read = || {
            let count = CHUNK_BYTES as u64;
            self.blob.read_at(place * count, count)
        };
        match context.call(&self.name, &mut self.seen, read)? {
            Outcome::Lost => Ok(Outcome::Lost),
            Outcome::Done(bytes) if bytes[..] != self.chunk(place)[..] => {
                Err(Error::Wrong(format!(
                    "{}: chunk {place} of {} is another one, of {} bytes",
                    self.name,
                    self.chunks,
                    bytes.len()
                )))
            }
            Outcome::Done(_) => Ok(Outcome::Done(())),
        }
    }

    fn read_all(&mut self, context: &Context) -> Result<Outcome<()>> {
        for place in 0..self.chunks {
            if let Outcome::Lost = self.read(context, place)? {
                return Ok(Outcome::Lost);
            }
        }
        Ok(Outcome::Done(()))
    }

    fn clear(&mut self, context: &Context) -> Result<Outcome<()>> {
        let truncate = || self.blob.truncate(0);
        let cleared = context.call(&self.name, &mut self.seen, truncate)?;
        self.chunks = 0;
        Ok(cleared)
    }
}

fn run(context: &Context, number: u64, megabytes: u64) -> Result<String> {
    let mut random = ChaCha8Rng::seed_from_u64(context.seed ^ number);
    let (mut generation, mut appended, mut rounds) = (0, 0, 0);
    let mut growing = Growing::create(context, number, &mut generation)?;
    while !context.is_over() {
        let mut done = if growing.chunks < megabytes {
            appended += 1;
            growing.grow(context)?
        } else {
            rounds += 1;
            match growing.read_all(context)? {
                Outcome::Lost => Outcome::Lost,
                Outcome::Done(()) => growing.clear(context)?,
            }
        };
        if let Outcome::Done(()) = done
            && growing.chunks > 0
        {
            let place = random.random_range(0..growing.chunks);
            done = growing.read(context, place)?;
        }
        if let Outcome::Lost = done {
            growing = Growing::create(context, number, &mut generation)?;
        }
    }
    growing.read_all(context)?;
    Ok(format!(
        "blob {number}: {appended} MB written, {rounds} times full"
    ))
}
