//! Data of any size between a program and a worker.
//!
//! A platform takes payloads and results up to a size ([`Platform::payload_bytes_max`]); on AWS Lambda that is a few
//! megabytes. What fits travels inside. What does not is put into objects of the run, in pieces, and only their handles
//! travel.
//!
//! [`Platform::payload_bytes_max`]: crucial_platform::Platform::payload_bytes_max

use std::sync::Arc;

use crucial_client::Client;
use crucial_object::collections::Blob;
use crucial_object::{Result, Shared, caller, decode, encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The size of a piece, in bytes: large enough that its round trip does not matter, small enough that no server is busy
/// with it for long.
const PIECE_BYTES: usize = 4 << 20;

/// A value that travels inside a payload, or beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Parcel<T> {
    /// The value itself.
    Inside(T),
    /// Its encoding, in pieces.
    Beside(Vec<Shared<Blob>>),
}

impl<T: Serialize + DeserializeOwned> Parcel<T> {
    /// Puts the value into objects of the client's run. Nothing is left behind by an error.
    pub fn put_beside(&mut self, client: &Arc<Client>) -> Result<()> {
        let Parcel::Inside(value) = &*self else {
            return Ok(());
        };
        let bytes = encode(value)?;
        let mut stored = Parcel::Beside(Vec::new());
        let put = caller::with(client.clone(), || {
            bytes.chunks(PIECE_BYTES).try_for_each(|piece| {
                let piece = Shared::new(Blob::new(piece))?;
                if let Parcel::Beside(pieces) = &mut stored {
                    pieces.push(piece);
                }
                Ok(())
            })
        });
        match put {
            Ok(()) => *self = stored,
            Err(_) => stored.discard(client),
        }
        put
    }

    /// The value. What lies beside is fetched, and stays where it is.
    pub fn open(self, client: &Arc<Client>) -> Result<T> {
        match self {
            Parcel::Inside(value) => Ok(value),
            Parcel::Beside(pieces) => {
                let mut bytes = Vec::with_capacity(pieces.len() * PIECE_BYTES);
                caller::with(client.clone(), || {
                    pieces.iter().try_for_each(|piece| -> Result<()> {
                        bytes.extend_from_slice(&piece.get()?);
                        Ok(())
                    })
                })?;
                decode(&bytes)
            }
        }
    }
}

impl<T> Parcel<T> {
    /// Deletes what lies beside, without waiting until it is gone.
    pub fn discard(&self, client: &Client) {
        let Parcel::Beside(pieces) = self else { return };
        for piece in pieces {
            if let Err(error) = client.delete_soon(piece.id()) {
                tracing::debug!(%error, "a piece of a payload or a result stays until the run ends");
            }
        }
    }
}
